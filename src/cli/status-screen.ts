/** `outrider status` as lines of text: pure, from what was found to what is shown. */
import { styleText } from "node:util";
import type { ServiceReport, State } from "../supervise/inspect/service.ts";
import { formatLocal } from "../supervise/inspect/stamps.ts";
import { duration, exitReason, fit, percent, printable, printableBytes, size, width } from "../supervise/inspect/words.ts";

export interface ScreenOptions {
  readonly where: string;
  readonly now: Date;
  /** Of the terminal; Infinity: nothing is cut. */
  readonly columns: number;
  readonly hasColour: boolean;
}

type Colour = "green" | "yellow" | "red" | "dim" | "bold";

interface Row {
  readonly cells: readonly string[];
  readonly note: string;
  readonly colour: Colour;
  readonly noteColour: Colour | undefined;
}

const HEADINGS = ["NAME", "STATE", "PID", "SINCE", "RESTARTS", "MEMORY", "CPU"];
const NAME = 0;
const STATE = 1;
const RIGHT = new Set([2, 4, 5, 6]);
/** What a narrow terminal does without, first the first. */
const DROPS = [6, 4, 2, 5, 3];
const LEAST_NOTE = 24;
const GAP = "  ";

const COLOURS: Readonly<Record<State, Colour>> = {
  up: "green",
  ready: "green",
  unhealthy: "red",
  paused: "yellow",
  stopping: "yellow",
  finishing: "yellow",
  waiting: "yellow",
  down: "red",
  failed: "red",
  unsupervised: "red",
  unknown: "red",
};

function colourOf(report: ServiceReport): Colour {
  if (report.isAsWanted) return report.state === "down" || report.state === "waiting" ? "dim" : "green";
  return COLOURS[report.state] === "green" ? "yellow" : COLOURS[report.state];
}

function cellsOf(name: string, report: ServiceReport, now: Date): string[] {
  const { since, starts, use, pid, state } = report;
  return [
    name,
    state,
    pid === 0 ? "" : String(pid),
    since === undefined || (state === "unsupervised" && pid === 0) ? "" : duration(now.getTime() - since.getTime()),
    starts === undefined || (state === "unsupervised" && pid === 0) ? "" : String(Math.max(0, starts - 1)),
    use === undefined ? "" : size(use.residentBytes),
    use === undefined ? "" : percent(use.cpuPercent),
  ];
}

/** The last log line with its time of day, and with the date when that is another. */
function lineOf(report: ServiceReport, now: Date): string {
  const line = report.lastLine;
  if (line === undefined) return "";
  const text = printableBytes(line.bytes).replaceAll("\t", " ");
  const at = line.time === undefined ? undefined : formatLocal(line.time)?.slice(0, 19);
  if (at === undefined) return text;
  const today = formatLocal({ seconds: Math.floor(now.getTime() / 1000), nanoseconds: 0 })?.slice(0, 10);
  return `${at.startsWith(today ?? "-") ? at.slice(11) : at} ${text}`;
}

function rowsOf(report: ServiceReport, now: Date): Row[] {
  const exit = report.lastExit === undefined ? undefined : exitReason(report.lastExit, now);
  const problem = report.problem;
  const warnings = report.warnings.map((one) => `${one} (counts as absent)`);
  const notes = [problem, ...warnings, exit === undefined ? undefined : problem === undefined ? exit : `last: ${exit}`].filter((one) => one !== undefined);
  const colour = colourOf(report);
  const rows: Row[] = [
    {
      cells: cellsOf(printable(report.name), report, now),
      note: printable(notes.join("; ")),
      colour,
      noteColour: problem !== undefined ? colour : warnings.length > 0 ? "yellow" : undefined,
    },
  ];
  const line = lineOf(report, now);
  const { log } = report;
  if (log !== undefined) {
    const logProblem = log.problem === undefined ? "" : `${printable(log.problem)}${line === "" ? "" : "; "}`;
    rows.push({
      cells: cellsOf("  log", log, now),
      note: logProblem + line,
      colour: colourOf(log),
      noteColour: log.problem === undefined ? "dim" : colourOf(log),
    });
  } else if (line !== "") {
    rows.push({ cells: ["  log", "", "", "", "", "", ""], note: line, colour: "dim", noteColour: "dim" });
  }
  return rows;
}

/** Whether this and its log are as they should be. */
export function isAllWell(report: ServiceReport): boolean {
  return report.isAsWanted && report.log?.isAsWanted !== false;
}

export function summary(reports: readonly ServiceReport[]): string {
  const wrong = reports.filter((report) => !isAllWell(report));
  const count = `${reports.length} service${reports.length === 1 ? "" : "s"}`;
  return wrong.length === 0 ? `${count}, all as wanted` : `${count}, ${wrong.length} not as wanted`;
}

/** Lines without newlines, each at most as wide as the terminal. */
export function renderStatus(reports: readonly ServiceReport[], options: ScreenOptions): string[] {
  const { now, columns, hasColour } = options;
  const paint = (colour: Colour | undefined, text: string): string =>
    !hasColour || colour === undefined || text === "" ? text : styleText(colour, text, { validateStream: false });
  const rows = reports.flatMap((report) => rowsOf(report, now));
  let kept = HEADINGS.map((_, index) => index).filter((index) => index <= STATE || rows.some((row) => row.cells[index] !== ""));
  const widths = HEADINGS.map((heading, index) => Math.max(heading.length, ...rows.map((row) => width(row.cells[index]))));
  // A long name does not push everything else off the screen.
  if (Number.isFinite(columns)) widths[NAME] = Math.min(widths[NAME], Math.max(8, Math.floor(columns / 3)));
  const taken = (): number => kept.reduce((sum, index) => sum + widths[index] + GAP.length, 0);
  const needed = Math.min(LEAST_NOTE, Math.max(0, ...rows.map((row) => width(row.note))));
  for (const drop of DROPS) if (taken() + needed > columns) kept = kept.filter((index) => index !== drop);
  const noteWidth = columns - taken();
  const cell = (index: number, text: string): string => {
    const shown = fit(text, widths[index]);
    const space = " ".repeat(widths[index] - width(shown));
    return RIGHT.has(index) ? space + shown : shown + space;
  };
  const line = (cells: readonly string[], note: string, colourAt: (index: number) => Colour | undefined, noteColour: Colour | undefined): string => {
    const plain = kept.map((index) => cell(index, cells[index]));
    const text = plain.map((one, at) => paint(colourAt(kept[at]), one)).join(GAP);
    const shown = noteWidth > 0 ? fit(note, noteWidth) : "";
    // Too narrow even for names and states.
    const least = plain.join(GAP);
    if (width(least) > columns) return fit(least.trimEnd(), columns);
    if (shown === "") return hasColour ? text : text.trimEnd();
    return `${text}${GAP}${paint(noteColour, shown)}`;
  };
  const wrong = reports.some((report) => !isAllWell(report));
  const title = `${printable(options.where)}${options.where === "" ? "" : ": "}`;
  const lines = [
    fitPainted(title, summary(reports), columns, (text) => paint(wrong ? "red" : "green", text)),
    line(HEADINGS, "LAST EXIT, LAST LOG LINE", () => "dim", "dim"),
  ];
  for (const row of rows) {
    const isLog = row.cells[NAME].startsWith("  ");
    lines.push(line(row.cells, row.note, (index) => (index === STATE ? row.colour : isLog ? "dim" : index === NAME ? "bold" : undefined), row.noteColour));
  }
  if (reports.every((report) => report.state === "unsupervised"))
    lines.push(paint("dim", fit("Nothing supervises them: outrider svscan DIR starts what is in DIR, outrider supervise DIR one service", columns)));
  if (kept.includes(5)) {
    const over = reports.flatMap((report) => [report.use, report.log?.use]).some((use) => use?.cpuOver === "interval")
      ? "since the last look"
      : "average of its life";
    const cpu = kept.includes(6) ? `; CPU: of one processor, ${over}` : "";
    lines.push(paint("dim", fit(`MEMORY: resident, of the process and its descendants${cpu}`, columns)));
  }
  return lines;
}

function fitPainted(title: string, text: string, columns: number, paint: (text: string) => string): string {
  if (width(title) + width(text) <= columns) return title + paint(text);
  return width(text) < columns ? fit(title, columns - width(text)) + paint(text) : fit(text, columns);
}
