/** The flags of a verb as one table: parsing, the help text and shell completion are made from it. */
import { parseArgs } from "node:util";
import { suggest } from "./suggest.ts";

export interface VerbFlag {
  /** Without the dashes. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** What the value is called in the help text; a flag without one is a switch. */
  readonly value?: string;
  /** The only values there are. */
  readonly values?: readonly string[];
  /** May be given several times: all its values are in `lists`. */
  readonly many?: true;
  readonly help: string;
}

/** Given flags by name: a switch's value is true; of a flag given twice the last counts. `lists` has all values of flags that may be given several times. */
export interface GivenFlags {
  readonly kind: "flags";
  readonly given: Readonly<Record<string, string | true>>;
  readonly lists: Readonly<Record<string, readonly string[]>>;
  readonly words: readonly string[];
}
/** Or what is wrong, in words. */
export type ParsedFlags = GivenFlags | { readonly kind: "error"; readonly text: string };

export const HELP_FLAG: VerbFlag = { name: "help", short: "h", help: "this text" };

/** Flags may stand before, between and behind other words, as `-n 5`, `-n5`, `--lines 5` or `--lines=5`; `--` ends them. `help` is always one. */
export function parseFlags(flags: readonly VerbFlag[], argv: readonly string[]): ParsedFlags {
  const all = [...flags, HELP_FLAG];
  const options = Object.fromEntries(
    all.map((flag) => [flag.name, { type: flag.value === undefined ? ("boolean" as const) : ("string" as const), ...(flag.short && { short: flag.short }) }]),
  );
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true, allowPositionals: true });
  const given: Record<string, string | true> = {};
  const lists: Record<string, string[]> = {};
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const flag = all.find((one) => one.name === token.name);
    if (flag === undefined) {
      const meant = suggest(
        token.rawName,
        all.map((one) => `--${one.name}`),
      );
      return { kind: "error", text: `no such flag: ${token.rawName}${meant === undefined ? "" : ` (did you mean ${meant}?)`}` };
    }
    if (flag.value === undefined) {
      if (token.value !== undefined) return { kind: "error", text: `${token.rawName} takes no value` };
      given[flag.name] = true;
    } else {
      if (token.value === undefined) return { kind: "error", text: `${token.rawName} needs a value: ${flag.value}` };
      if (flag.values !== undefined && !flag.values.includes(token.value))
        return { kind: "error", text: `${token.rawName} ${token.value}: must be one of ${flag.values.join(", ")}` };
      given[flag.name] = token.value;
      if (flag.many) (lists[flag.name] ??= []).push(token.value);
    }
  }
  return { kind: "flags", given, lists, words };
}

/** One line a flag. */
export function flagsHelp(flags: readonly VerbFlag[]): string {
  const rows = [...flags, HELP_FLAG].map((flag) => {
    const value = flag.value === undefined ? "" : ` ${flag.values?.join("|") ?? flag.value}`;
    return [`  ${flag.short === undefined ? "    " : `-${flag.short}, `}--${flag.name}${value}`, flag.help] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, help]) => `${left.padEnd(width)}${help}\n`).join("");
}

/** The flags that a help text describes: for verbs whose own table is of another form. Of `auto|apache|COMMAND` the words in small letters are values. */
export function flagsOfHelp(text: string): VerbFlag[] {
  const found: VerbFlag[] = [];
  for (const [, short, name, value, help] of text.matchAll(/^ +(?:-([A-Za-z]), )?--([a-z][a-z0-9-]*)(?:[ =](\S+))?(?: {2,}|\n +)(\S.*)$/gm)) {
    if (name === HELP_FLAG.name) continue;
    const values = value?.includes("|") ? value.split("|").filter((one) => /^[a-z0-9-]+$/.test(one)) : undefined;
    found.push({ name, help: help.trim(), ...(short && { short }), ...(value && { value }), ...(values?.length && { values }) });
  }
  return found;
}
