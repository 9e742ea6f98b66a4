/** `outrider status`: what runs, since when, how it ended last, what it uses, what it said last. */
import { Inspector } from "../supervise/inspect/service.ts";
import { EXIT_TROUBLE, EXIT_USAGE } from "../supervise/messages.ts";
import { writeAll } from "../supervise/write-all.ts";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";
import { type Selection, selectServices } from "./service-directories.ts";
import { statusJson } from "./status-json.ts";
import { isAllWell, renderStatus } from "./status-screen.ts";
import { watchScreen } from "./status-watch.ts";

export const FLAGS: readonly VerbFlag[] = [
  { name: "watch", short: "w", help: "look again every second, until q or Ctrl-C" },
  { name: "json", help: "data instead of a table; with --watch one line each second" },
];

const WATCH_MS = 1000;
const NOT_AS_WANTED = 1;

function help(): string {
  return `USAGE: outrider status [FLAGS] [DIR...]

Shows services and their logs: state, since when, restarts, memory, processor time, how each ended last, the last line of its log.
DIR is a directory of services, or one service. Default: the running pod's, else $SVDIR, else /service, else /etc/service.

${flagsHelp(FLAGS)}
Exit code 0: all are as wanted; 1: one is not; 100: wrong usage; 111: trouble, or no services found.
`;
}

function complain(lines: readonly string[], code: number): number {
  for (const line of lines) process.stderr.write(`outrider status: ${line}\n`);
  return code;
}

const hasColour = (): boolean => process.stdout.isTTY && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";

export async function status(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  if (parsed.kind === "error") return complain([`${parsed.text} (all flags: outrider status --help)`], EXIT_USAGE);
  const { given, words } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(help());
    return 0;
  }
  const selection = selectServices(words);
  const trouble = complain(selection.problems, selection.problems.length > 0 ? EXIT_TROUBLE : 0);
  if (selection.services.length === 0) return EXIT_TROUBLE;
  const inspector = new Inspector();
  if (given["watch"] !== undefined) return watch(words, selection, inspector, given["json"] !== undefined);
  const now = new Date();
  const reports = inspector.look(selection.services, now);
  const columns = process.stdout.isTTY ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY;
  const text =
    given["json"] !== undefined
      ? statusJson(reports, now, 2)
      : renderStatus(reports, { where: selection.where, now, columns, hasColour: hasColour() }).join("\n");
  if (!print(text)) return EXIT_TROUBLE;
  return trouble || (reports.every(isAllWell) ? 0 : NOT_AS_WANTED);
}

/** False when nobody reads any more. */
function print(text: string): boolean {
  try {
    writeAll(1, Buffer.from(`${text}\n`));
    return true;
  } catch {
    return false;
  }
}

async function watch(words: readonly string[], first: Selection, inspector: Inspector, asJson: boolean): Promise<number> {
  let selection = first;
  /** Services come and go. */
  const look = (): { reports: ReturnType<Inspector["look"]>; now: Date } => {
    const found = selectServices(words);
    if (found.services.length > 0) selection = found;
    const now = new Date();
    return { reports: inspector.look(selection.services, now), now };
  };
  const lines = (columns: number): readonly string[] => {
    const { reports, now } = look();
    return renderStatus(reports, { where: selection.where, now, columns, hasColour: hasColour() });
  };
  if (!asJson && process.stdout.isTTY && process.env["TERM"] !== "dumb") {
    await watchScreen(process.stdin, process.stdout, WATCH_MS, lines);
    return 0;
  }
  return new Promise((resolve) => {
    const step = (): void => {
      const text = asJson ? jsonLine(look()) : `${lines(Number.POSITIVE_INFINITY).join("\n")}\n`;
      if (print(text)) return;
      clearInterval(timer);
      resolve(0);
    };
    const timer = setInterval(step, WATCH_MS);
    step();
  });
}

function jsonLine({ reports, now }: { reports: ReturnType<Inspector["look"]>; now: Date }): string {
  return statusJson(reports, now, 0);
}
