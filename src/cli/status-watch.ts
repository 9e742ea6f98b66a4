/** Redraws lines on a terminal: on its other screen, over what is there, so that nothing flickers. Ends with q, Ctrl-C or a signal. */
import type { ReadStream, WriteStream } from "node:tty";

/** The other screen, no cursor, no wrapping; and back. */
const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l\u001b[H\u001b[2J";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
/** The terminal shows what stands between these at once, if it knows them. */
const BEGIN = "\u001b[?2026h";
const END = "\u001b[?2026l";

const SIGNALS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** One frame: every line is overwritten and its rest erased, then what is below. What does not fit is left out, from `top` lines on. */
export function frame(lines: readonly string[], rows: number, top: number): string {
  const [shown, hidden] = visible(lines, rows, top);
  const more = hidden > 0 ? [...shown, `\u001b[2m${hidden} more lines: arrow keys, page up and down\u001b[22m`] : shown;
  return `${BEGIN}\u001b[H${more.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J${END}`;
}

function visible(lines: readonly string[], rows: number, top: number): [shown: readonly string[], hidden: number] {
  if (lines.length <= rows) return [lines, 0];
  // Title and headings stay.
  const head = lines.slice(0, 2);
  const room = Math.max(0, rows - head.length - 1);
  const body = lines.slice(2);
  const from = Math.min(top, Math.max(0, body.length - room));
  return [[...head, ...body.slice(from, from + room)], body.length - Math.min(room, body.length)];
}

/**
 * Draws at once, at every interval, at every key and when the terminal's size changes, until it is ended.
 * @param lines what to show, for a width
 */
export function watchScreen(input: ReadStream, output: WriteStream, intervalMs: number, lines: (columns: number) => readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let top = 0;
    let last: readonly string[] = [];
    const draw = (isFresh: boolean): void => {
      try {
        if (isFresh) last = lines(output.columns || 80);
        top = Math.max(0, Math.min(top, last.length - 2));
        output.write(frame(last, output.rows || 24, top));
      } catch (error) {
        finish();
        reject(error);
      }
    };
    const onKey = (bytes: Buffer): void => {
      const key = bytes.toString("latin1");
      if (/[qQ\x03\x04]/.test(key.replaceAll(/\x1b\[[0-9;]*[A-Za-z~]/g, ""))) {
        finish();
        resolve();
        return;
      }
      const page = Math.max(1, (output.rows || 24) - 4);
      const steps: Readonly<Record<string, number>> = { "\x1b[A": -1, k: -1, "\x1b[B": 1, j: 1, "\x1b[5~": -page, "\x1b[6~": page, " ": page };
      top = Math.max(0, top + (steps[key] ?? 0));
      draw(true);
    };
    const onResize = (): void => draw(true);
    const onSignal = (): void => {
      finish();
      resolve();
    };
    const timer = setInterval(() => draw(true), intervalMs);
    const finish = (): void => {
      clearInterval(timer);
      output.off("resize", onResize);
      output.off("error", onSignal);
      for (const signal of SIGNALS) process.off(signal, onSignal);
      input.off("data", onKey);
      input.off("end", onSignal);
      if (input.isTTY) input.setRawMode(false);
      input.pause();
      input.unref?.();
      output.write(LEAVE);
    };
    output.on("resize", onResize);
    output.on("error", onSignal); // the terminal is gone
    for (const signal of SIGNALS) process.on(signal, onSignal);
    if (input.isTTY) {
      input.setRawMode(true);
      input.on("data", onKey);
      input.on("end", onSignal);
      input.resume();
    }
    output.write(ENTER);
    draw(true);
  });
}
