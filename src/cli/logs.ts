/** `outrider logs`: what services have said, from the oldest file that is kept to now. */
import { styleText } from "node:util";
import { type FoundService, findServices } from "../supervise/inspect/find.ts";
import { watchDirectories } from "../supervise/inspect/follow.ts";
import { isLogDirectory } from "../supervise/inspect/log-directories.ts";
import { LogSource, Merge, type Piece } from "../supervise/inspect/log-source.ts";
import { Inspector } from "../supervise/inspect/service.ts";
import { formatLocal, formatUtc } from "../supervise/inspect/stamps.ts";
import { fit, printable, printableBytes, width } from "../supervise/inspect/words.ts";
import { EXIT_TROUBLE, EXIT_USAGE, reason } from "../supervise/messages.ts";
import type { Time } from "../supervise/tai64n.ts";
import { writeAll } from "../supervise/write-all.ts";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";
import { defaultServices, findService } from "./service-directories.ts";
import { parseSince } from "./since.ts";

export const FLAGS: readonly VerbFlag[] = [
  { name: "follow", short: "f", help: "go on with what comes, until Ctrl-C; without --lines and --since from the last 10 lines on" },
  { name: "lines", short: "n", value: "LINES", help: "the last so many of each service" },
  { name: "since", value: "TIME", help: "from then on: 10m, 1h30m, 2d ago; 14:30; 2026-11-23; '2026-11-23 14:30'" },
  { name: "utc", help: "times in UTC" },
  { name: "raw", help: "lines as they are in the files, with TAI64N stamps" },
];

const FOLLOW_LINES = 10;

function help(): string {
  return `USAGE: outrider logs [FLAGS] [NAME|DIR...]

Prints the logs of services, merged by time when there are several, with TAI64N stamps turned into local time.
NAME is a service of the running pod, else of $SVDIR, else of /service, else of /etc/service; DIR a directory of services, a service or a log
directory of multilog. Without any: all services there. On a terminal control characters are shown as \\x1b; a pipe gets the bytes as they are.

${flagsHelp(FLAGS)}
Exit code 0; 100: wrong usage; 111: trouble, or no such log.
`;
}

function complain(lines: readonly string[], code: number): number {
  for (const line of lines) process.stderr.write(`outrider logs: ${printable(line)}\n`);
  return code;
}

interface Log {
  readonly name: string;
  readonly directory: string;
}

/** The logs that are meant, and what is wrong with the other words. */
function findLogs(words: readonly string[]): { readonly logs: readonly Log[]; readonly problems: readonly string[] } {
  const inspector = new Inspector();
  const problems: string[] = [];
  const logs: Log[] = [];
  const add = (service: FoundService): void => {
    const [report] = inspector.look([service]);
    if (report.logDirectories.length > 0) logs.push({ name: service.name, directory: report.logDirectories[0] });
    else if (report.log === undefined)
      problems.push(`${service.name} has no log: what it prints goes where its svscan's output goes. A folder log/ with a run of its own keeps it`);
    else problems.push(`${service.name}: its log has written nothing yet, or not with multilog. Where it writes stands in ${service.path}/log/run`);
  };
  /** Those without a log are no reason to complain when nobody has named them. */
  const addAll = (services: readonly FoundService[]): void => {
    const before = problems.length;
    const count = logs.length;
    for (const one of services) add(one);
    if (logs.length > count) problems.length = before;
  };
  if (words.length === 0) {
    const all = defaultServices();
    problems.push(...all.problems);
    addAll(all.services);
    return { logs, problems };
  }
  for (const word of words) {
    const service = findService(word);
    if (service === undefined) {
      const known = defaultServices();
      const names = known.services.map((one) => one.name).join(", ");
      problems.push(
        `${word}: no such service or directory. ${names === "" ? "No service directory was found either: name a path" : `There are: ${names} (in ${known.where})`}`,
      );
    } else if (isLogDirectory(service.path)) {
      logs.push({ name: word, directory: service.path });
    } else {
      const found = findServices(service.path);
      if (found.kind === "none") problems.push(`${word}: ${found.why}, and no log in it`);
      else if (found.services.length === 1) add(found.services[0]);
      else addAll(found.services);
    }
  }
  return { logs, problems };
}

const PREFIX_COLOURS = ["cyan", "yellow", "green", "magenta", "blue", "red"] as const;
const LONGEST_PREFIX = 24;

interface Style {
  readonly isTerminal: boolean;
  readonly hasColour: boolean;
  readonly isRaw: boolean;
  readonly isUtc: boolean;
}

const NEWLINE = 0x0a;
/** So much is collected before it is written. */
const BATCH_BYTES = 1 << 17;

/** Pieces of lines as bytes to print. */
export class LineWriter {
  readonly #style: Style;
  readonly #prefixes: ReadonlyMap<string, string>;
  #buffer = Buffer.allocUnsafe(2 * BATCH_BYTES);
  #length = 0;

  /** @param names of all logs; with more than one, each line begins with its */
  constructor(names: readonly string[], style: Style) {
    this.#style = style;
    const shown = names.map((name) => fit(printable(name), LONGEST_PREFIX));
    const longest = Math.max(...shown.map(width));
    this.#prefixes = new Map(
      names.length < 2
        ? []
        : names.map((name, i) => {
            const text = `${shown[i]}${" ".repeat(longest - width(shown[i]))} |`;
            return [name, `${style.hasColour ? styleText(PREFIX_COLOURS[i % PREFIX_COLOURS.length], text, { validateStream: false }) : text} `];
          }),
    );
  }

  add(name: string, piece: Piece): void {
    const { isRaw, isUtc, isTerminal, hasColour } = this.#style;
    let rest = piece.bytes;
    if (piece.startsLine) {
      const prefix = this.#prefixes.get(name);
      if (prefix !== undefined) this.#put(Buffer.from(prefix));
      const time = isRaw || piece.stamp === undefined ? undefined : (isUtc ? formatUtc : formatLocal)(piece.stamp.time);
      if (time !== undefined && piece.stamp !== undefined) {
        const shown = `${hasColour ? styleText("dim", time, { validateStream: false }) : time} `;
        this.#room(shown.length);
        this.#length += this.#buffer.write(shown, this.#length, "latin1");
        rest = rest.subarray(piece.stamp.length);
      }
    }
    this.#put(isTerminal ? Buffer.from(printableBytes(rest)) : rest);
    if (!piece.endsLine) return;
    this.#room(1);
    this.#buffer[this.#length++] = NEWLINE;
  }

  #put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#length + bytes));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }

  /** What has come together since the last call; valid until the next `add`. */
  take(): Buffer {
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#length = 0;
    return bytes;
  }

  get isFull(): boolean {
    return this.#length >= BATCH_BYTES;
  }
}

export async function logs(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  if (parsed.kind === "error") return complain([`${parsed.text} (all flags: outrider logs --help)`], EXIT_USAGE);
  const { given, words } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(help());
    return 0;
  }
  const isFollowing = given["follow"] !== undefined;
  let lines: number | undefined;
  if (given["lines"] !== undefined) {
    if (!/^\d{1,9}$/.test(String(given["lines"]))) return complain([`--lines ${given["lines"]}: must be a number of lines`], EXIT_USAGE);
    lines = Number(given["lines"]);
  }
  let since: Time | undefined;
  if (given["since"] !== undefined) {
    since = parseSince(String(given["since"]), new Date());
    if (since === undefined)
      return complain([`--since ${given["since"]}: must be like 10m, 1h30m, 2d, 14:30, 2026-11-23, '2026-11-23 14:30:00' or 2026-11-23T14:30:00Z`], EXIT_USAGE);
  }
  if (isFollowing && since === undefined) lines ??= FOLLOW_LINES;
  const { logs: found, problems } = findLogs(words);
  let code = complain(problems, problems.length > 0 ? EXIT_TROUBLE : 0);
  const sources: LogSource[] = [];
  for (const log of found) {
    try {
      sources.push(new LogSource(log.name, log.directory, { lines, since }));
    } catch (error) {
      code = complain([`${log.name}: unable to read ${log.directory}: ${reason(error)}`], EXIT_TROUBLE);
    }
  }
  if (sources.length === 0) return code;
  const isTerminal = process.stdout.isTTY === true;
  const hasColour = isTerminal && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
  const names = sources.map((source) => source.name);
  const writer = new LineWriter(names, { isTerminal, hasColour, isRaw: given["raw"] !== undefined, isUtc: given["utc"] !== undefined });
  const merge = new Merge(sources);
  const drain = (): void => {
    merge.drain((source, piece) => {
      writer.add(source.name, piece);
      if (writer.isFull) writeAll(1, writer.take());
    });
    writeAll(1, writer.take());
  };
  try {
    if (isFollowing) await follow(found, drain);
    else {
      drain();
      for (const source of sources) source.finish();
      drain();
    }
    return code;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EPIPE") return code; // the reader has seen enough
    return complain([`unable to go on: ${reason(error)}`], EXIT_TROUBLE);
  } finally {
    for (const source of sources) source.close();
  }
}

/** Rejects when a log cannot be read any more. */
function follow(found: readonly Log[], drain: () => void): Promise<never> {
  return new Promise((_, reject) => {
    const step = (): void => {
      try {
        drain();
      } catch (error) {
        end();
        reject(error);
      }
    };
    // Watched before the first read: what is written in between is notified.
    const end = watchDirectories(
      found.map((log) => log.directory),
      step,
    );
    step();
  });
}
