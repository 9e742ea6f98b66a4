/**
 * What the pod shows: a table of what runs where, and a line for each change. On a terminal the table stays below the lines and is drawn anew;
 * elsewhere it is printed once, when everything is ready.
 */
import { styleText } from "node:util";

export type RowState = "starting" | "up" | "ended" | "stopping" | "stopped";

interface Row {
  readonly name: string;
  state: RowState;
  detail: string;
  /** One line each. */
  readonly where: readonly string[];
}

/** What a terminal is to us. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const COLOURS = { starting: "yellow", up: "green", ended: "red", stopping: "yellow", stopped: "dim" } as const;
const NAME_WIDTH = 6;
const STATE_WIDTH = 19;

export class Screen {
  readonly #output: Output;
  readonly #isTerminal: boolean;
  readonly #hasColour: boolean;
  readonly #rows: Row[] = [];
  /** Lines of the table that stand at the bottom of the terminal. */
  #drawn = 0;
  #isClosed = false;

  constructor(output: Output) {
    this.#output = output;
    this.#isTerminal = output.isTTY === true && process.env["TERM"] !== "dumb";
    this.#hasColour = this.#isTerminal && !process.env["NO_COLOR"];
  }

  add(name: string, where: readonly string[]): void {
    this.#rows.push({ name, state: "starting", detail: "", where });
  }

  set(name: string, state: RowState, detail = ""): void {
    const row = this.#rows.find((one) => one.name === name);
    if (row === undefined) return;
    row.state = state;
    row.detail = detail;
    if (this.#isTerminal) this.#redraw("");
  }

  /** A change, with the time of day. */
  event(text: string): void {
    const time = new Date();
    const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
    this.line(`${this.#paint("dim", clock)} ${text}`);
  }

  line(text: string): void {
    if (this.#isTerminal) this.#redraw(`${text}\n`);
    else this.#output.write(`${text}\n`);
  }

  /** Where there is no terminal to keep it on. */
  printTable(): void {
    if (!this.#isTerminal) this.#output.write(this.#table());
  }

  /** The table stays as it is; nothing is drawn over it any more. */
  close(): void {
    if (this.#isTerminal) this.#redraw("");
    this.#drawn = 0;
    this.#isClosed = true;
  }

  #redraw(above: string): void {
    if (this.#isClosed) {
      this.#output.write(above);
      return;
    }
    const table = this.#table();
    const up = this.#drawn === 0 ? "" : `\u001b[${this.#drawn}A\r\u001b[J`;
    this.#output.write(up + above + table);
    this.#drawn = table.split("\n").length - 1;
  }

  #table(): string {
    const columns = this.#isTerminal ? Math.max(40, this.#output.columns || 80) : 1000;
    const lines = [""];
    for (const row of this.#rows) {
      const state = row.detail === "" ? row.state : `${row.state}, ${row.detail}`;
      const [first = "", ...rest] = row.where;
      lines.push(this.#row(row.name, state, first, columns, COLOURS[row.state]));
      for (const where of rest) lines.push(this.#row("", "", where, columns));
    }
    lines.push("", "");
    return lines.join("\n");
  }

  /** Cut to the width of the terminal, since a line that wraps would put the table out of step. */
  #row(name: string, state: string, where: string, columns: number, colour?: (typeof COLOURS)[RowState]): string {
    const plain = `  ${name.padEnd(NAME_WIDTH)} ${state.padEnd(STATE_WIDTH)} ${where}`.trimEnd().slice(0, columns - 1);
    if (colour === undefined) return plain;
    const from = 3 + NAME_WIDTH;
    return plain.slice(0, from) + this.#paint(colour, plain.slice(from, from + state.length)) + plain.slice(from + state.length);
  }

  #paint(style: "dim" | (typeof COLOURS)[RowState], text: string): string {
    return this.#hasColour ? styleText(style, text, { validateStream: false }) : text;
  }
}
