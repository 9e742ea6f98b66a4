/** Lua's errors in the words of LuaJIT, which logs and scripts of the field expect: 5.4 names the variable behind the type, and some things differently. */

const named =
  /attempt to (index|call|concatenate|get length of|perform arithmetic on) a ([\w ]+) value \((local|upvalue|field|global|method|constant|metamethod) '([^']*)'\)/g;

/** Of syntax errors: 5.4's form, LuaJIT's. */
const syntax: readonly (readonly [RegExp, string])[] = [
  [/: <(name|eof)> expected near /, ": '<$1>' expected near "],
  [/ near <(eof|name|number|string)>$/, " near '<$1>'"],
  [/:\d+: no visible label '(.*)' for <goto> at line (\d+)$/, ":$2: undefined label '$1'"],
  [/:\d+: break outside loop at line (\d+)(?: near .*)?$/, ":$1: no loop to break"],
  [/:\d+: label '(.*)' already defined on line (\d+)$/, ":$2: duplicate label '$1'"],
  [/: unfinished long (string|comment) \(starting at line \d+\)/, ": unfinished long $1"],
];

export function asLuaJit(message: string): string {
  if (message.includes("attempt to ")) {
    return message.replace(named, (_whole, doing: string, type: string, kind: string, name: string) =>
      kind === "constant" || kind === "metamethod" ? `attempt to ${doing} a ${type} value` : `attempt to ${doing} ${kind} '${name}' (a ${type} value)`,
    );
  }
  let text = message;
  for (const [pattern, replacement] of syntax) text = text.replace(pattern, replacement);
  return text;
}
