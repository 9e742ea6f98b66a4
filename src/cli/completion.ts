/** `outrider completion SHELL`: a script that teaches a shell the verbs, their flags and the names of services. */
import { EXIT_USAGE } from "../supervise/messages.ts";
import { isToolName, TOOLS } from "../supervise/tools.ts";
import { bashScript, type CompletionTable, fishScript, zshScript } from "./completion-scripts.ts";
import { flagsHelp, HELP_FLAG, parseFlags, type VerbFlag } from "./flags.ts";
import { proxyFlags } from "./options.ts";
import { defaultServices } from "./service-directories.ts";
import { VERBS } from "./verbs.ts";

export const FLAGS: readonly VerbFlag[] = [];

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
export const SHELLS = Object.keys(SCRIPTS) as readonly (keyof typeof SCRIPTS)[];
/** What the scripts ask for at each completion: one name a line. */
const SERVICES = "services";

function help(): string {
  return `USAGE: outrider completion ${SHELLS.join("|")}

Prints a script for the shell, which then completes verbs, flags, their values and the names of services:

  bash  echo 'source <(outrider completion bash)' >> ~/.bashrc
  zsh   outrider completion zsh > ~/.zfunc/_outrider      # a folder of $fpath, before compinit
  fish  outrider completion fish > ~/.config/fish/completions/outrider.fish

${flagsHelp(FLAGS)}`;
}

/** Everything there is to complete, from the tables that the command line itself is read with. */
export async function completionTable(): Promise<CompletionTable> {
  const verbs = await Promise.all(
    Object.entries(VERBS).map(async ([name, verb]) => ({
      name,
      summary: verb.summary,
      words: verb.words === "shells" ? SHELLS : verb.words,
      flags: [...((await verb.flags?.()) ?? []), HELP_FLAG],
    })),
  );
  return { verbs, tools: Object.keys(TOOLS).filter(isToolName), flags: proxyFlags };
}

export async function completion(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  const words = parsed.kind === "error" ? [] : parsed.words;
  if (parsed.kind === "flags" && parsed.given["help"] !== undefined) {
    process.stdout.write(help());
    return 0;
  }
  if (words.length === 1 && words[0] === SERVICES) {
    // A name with a newline in it has no place in a list of lines.
    const names = defaultServices().services.map((one) => one.name);
    process.stdout.write(
      names
        .filter((name) => !/[\0-\x1f\x7f]/.test(name))
        .map((name) => `${name}\n`)
        .join(""),
    );
    return 0;
  }
  const shell = SHELLS.find((one) => one === words[0]);
  if (shell === undefined || words.length > 1 || parsed.kind === "error") {
    const wrong = parsed.kind === "error" ? parsed.text : words.length === 0 ? "which shell?" : `no script for '${words.join(" ")}'`;
    process.stderr.write(`outrider completion: ${wrong}\nusage: outrider completion ${SHELLS.join("|")}\n`);
    return EXIT_USAGE;
  }
  process.stdout.write(SCRIPTS[shell](await completionTable()));
  return 0;
}
