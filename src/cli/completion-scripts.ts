/** Completion scripts as text: pure, from a table of verbs and flags. */
import type { VerbFlag } from "./flags.ts";

export interface CompletionVerb {
  readonly name: string;
  readonly summary: string;
  /** What its words are: services, by name or by directory, or one of a few. */
  readonly words: "services" | readonly string[] | undefined;
  readonly flags: readonly VerbFlag[];
}

export interface CompletionTable {
  readonly verbs: readonly CompletionVerb[];
  /** Commands of daemontools. */
  readonly tools: readonly string[];
  /** Of the proxy, which has no verb. */
  readonly flags: readonly VerbFlag[];
}

/** What a flag's value is. */
function valueKind(flag: VerbFlag): "none" | "values" | "directory" | "file" | "other" {
  if (flag.value === undefined) return "none";
  if (flag.values !== undefined && flag.values.length > 0) return "values";
  return flag.value === "DIR" ? "directory" : flag.value === "FILE" ? "file" : "other";
}

const names = (flag: VerbFlag): string[] => [`--${flag.name}`, ...(flag.short === undefined ? [] : [`-${flag.short}`])];
/** One word for any of the three shells. */
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
/** These take directories of services; the rest of daemontools mostly takes programs. */
const DIRECTORY_TOOLS = new Set(["svscan", "supervise", "svc", "svok", "svstat"]);
/** Without what explains more, so that a menu of flags stays readable. */
const brief = (text: string): string =>
  text
    .replaceAll(/ ?\([^)]*\)/g, "")
    .replace(/[:;] .*$/, "")
    .trim();

export function bashScript(table: CompletionTable): string {
  const flagCase = (flags: readonly VerbFlag[]): string[] => {
    const lines = flags
      .filter((flag) => flag.value !== undefined)
      .map((flag) => {
        const kind = valueKind(flag);
        const values = kind === "values" ? `_outrider_words ${quote(flag.values?.join(" ") ?? "")}; ` : "";
        const files = kind === "directory" ? "_outrider_directories; " : kind === "file" ? "_outrider_files; " : "";
        return `        ${names(flag).join("|")}) ${values}${files}return ;;`;
      });
    return lines.length === 0 ? [] : ['      case "$previous" in', ...lines, "      esac"];
  };
  const all = (flags: readonly VerbFlag[]): string => quote(flags.flatMap(names).join(" "));
  const verbLines = table.verbs.flatMap((verb) => {
    const words =
      verb.words === "services"
        ? "_outrider_services; _outrider_directories"
        : verb.words === undefined
          ? ""
          : `_outrider_words ${quote(verb.words.join(" "))}`;
    return [
      `    ${verb.name})`,
      ...flagCase(verb.flags),
      `      if [[ $current == -* ]]; then _outrider_words ${all(verb.flags)}${words === "" ? "" : `; else ${words}`}; fi`,
      "      ;;",
    ];
  });
  const directoryTools = table.tools.filter((tool) => DIRECTORY_TOOLS.has(tool));
  const otherTools = table.tools.filter((tool) => !DIRECTORY_TOOLS.has(tool));
  return `# bash completion of outrider; made by: outrider completion bash
_outrider_words() {
  local word
  for word in $1; do if [[ $word == "$current"* ]]; then COMPREPLY+=("$word"); fi; done
}
_outrider_directories() { compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY+=($(compgen -d -- "$current")); }
_outrider_files() { compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY+=($(compgen -f -- "$current")); }
_outrider_services() {
  local name
  while IFS= read -r name; do
    if [[ $name == "$current"* ]]; then COMPREPLY+=("$(printf %q "$name")"); fi
  done < <("\${COMP_WORDS[0]}" completion services 2>/dev/null)
}
_outrider() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} verb=\${COMP_WORDS[1]}
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 && $current != -* ]]; then
    _outrider_words ${quote([...table.verbs.map((verb) => verb.name), ...table.tools].join(" "))}
    return
  fi
  case "$verb" in
${verbLines.join("\n")}
    ${directoryTools.join("|")}) _outrider_directories ;;
    ${otherTools.join("|")}) if [[ $current == */* ]]; then _outrider_files; else COMPREPLY+=($(compgen -c -- "$current")); _outrider_files; fi ;;
    *)
${flagCase(table.flags).join("\n")}
      if [[ $current == -* ]]; then _outrider_words ${all(table.flags)}; fi
      ;;
  esac
}
complete -F _outrider outrider
`;
}

export function zshScript(table: CompletionTable): string {
  const plain = (text: string): string => text.replaceAll(/[\\[\]:]/g, "\\$&");
  const specification = (flag: VerbFlag): string[] => {
    const kind = valueKind(flag);
    const action = kind === "values" ? `(${flag.values?.join(" ")})` : kind === "directory" ? "_files -/" : kind === "file" ? "_files" : " ";
    const value = kind === "none" ? "" : `:${plain(flag.value ?? "")}:${action}`;
    return names(flag).map((name) => quote(`${name}[${plain(brief(flag.help))}]${value}`));
  };
  const verbLines = table.verbs.flatMap((verb) => {
    const words = verb.words === "services" ? ["'*:service:_outrider_services'"] : verb.words === undefined ? [] : [quote(`1:word:(${verb.words.join(" ")})`)];
    return [`    ${verb.name}) _arguments -s ${[...verb.flags.flatMap(specification), ...words].join(" \\\n      ")} ;;`];
  });
  const directoryTools = table.tools.filter((tool) => DIRECTORY_TOOLS.has(tool));
  const entries = [...table.verbs.map((verb) => quote(`${verb.name}:${plain(verb.summary)}`)), ...table.tools.map((tool) => quote(`${tool}:daemontools`))];
  return `#compdef outrider
# zsh completion of outrider; made by: outrider completion zsh
_outrider_services() {
  local -a services
  services=("\${(@f)$("$outrider" completion services 2>/dev/null)}")
  _alternative "services:service:compadd -a services" 'directories:directory:_files -/'
}
_outrider() {
  local outrider=$words[1]
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    local -a verbs=(
      ${entries.join("\n      ")}
    )
    _describe verb verbs
    return
  fi
  if [[ $words[2] == -* ]]; then
    _arguments ${table.flags.flatMap(specification).join(" \\\n      ")}
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
${verbLines.join("\n")}
    ${directoryTools.join("|")}) _files -/ ;;
    *) _normal ;;
  esac
}
if [[ $funcstack[1] == _outrider ]]; then _outrider "$@"; else compdef _outrider outrider; fi
`;
}

export function fishScript(table: CompletionTable): string {
  const word = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const commands = [...table.verbs.map((verb) => verb.name), ...table.tools];
  const rule = (condition: string, ...rest: string[]): string => `complete -c outrider -n ${word(condition)} ${rest.join(" ")}`;
  const flagRule = (condition: string, flag: VerbFlag): string => {
    const kind = valueKind(flag);
    const value =
      kind === "none"
        ? []
        : kind === "values"
          ? ["-x", "-a", word(flag.values?.join(" ") ?? "")]
          : kind === "file"
            ? ["-r", "-F"]
            : kind === "directory"
              ? ["-x", "-a", word("(__fish_complete_directories)")]
              : ["-x"];
    const short = flag.short === undefined ? [] : ["-s", flag.short];
    return rule(condition, ...short, "-l", flag.name, ...value, "-d", word(brief(flag.help)));
  };
  const isVerb = (name: string): string => `__outrider_verb ${name}`;
  const lines = table.verbs.flatMap((verb) => [
    rule("__outrider_no_verb", "-a", verb.name, "-d", word(verb.summary)),
    ...verb.flags.map((flag) => flagRule(isVerb(verb.name), flag)),
    ...(verb.words === "services"
      ? [rule(isVerb(verb.name), "-a", word("(__outrider_services)"), "-d", "service"), rule(isVerb(verb.name), "-a", word("(__fish_complete_directories)"))]
      : verb.words === undefined
        ? []
        : [rule(isVerb(verb.name), "-a", word(verb.words.join(" ")))]),
  ]);
  const tools = table.tools.flatMap((tool) => [
    rule("__outrider_no_verb", "-a", tool, "-d", "daemontools"),
    rule(isVerb(tool), ...(DIRECTORY_TOOLS.has(tool) ? ["-a", word("(__fish_complete_directories)")] : ["-F"])),
  ]);
  return `# fish completion of outrider; made by: outrider completion fish
function __outrider_no_verb
  set -l words (commandline -opc)
  test (count $words) -eq 1
end
function __outrider_verb
  set -l words (commandline -opc)
  test (count $words) -ge 2; and test "$words[2]" = "$argv[1]"
end
function __outrider_proxy
  set -l words (commandline -opc)
  test (count $words) -eq 1; or not contains -- "$words[2]" ${commands.join(" ")}
end
function __outrider_services
  set -l words (commandline -opc)
  $words[1] completion services 2>/dev/null
end
complete -c outrider -e
complete -c outrider -f
${[...table.flags.map((flag) => flagRule("__outrider_proxy", flag)), ...lines, ...tools].join("\n")}
`;
}
