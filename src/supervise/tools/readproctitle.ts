/**
 * readproctitle LABEL... DOTS: shows the last bytes of standard input in its own argument list, where `ps` sees them. Node can change only the
 * whole title, so the command line is laid out anew in the memory it already has, dots and all.
 */
import { EXIT_USAGE } from "../messages.ts";
import { readInput } from "../multilog/input.ts";

const MIN_DOTS = 5;
const MARK = "...";

export function run(args: string[]): number | Promise<number> {
  const dots = args.at(-1) ?? "";
  if (dots.length < MIN_DOTS) return EXIT_USAGE;
  const label = ["readproctitle", ...args.slice(0, -1)].join(" ");
  let shown = ".".repeat(dots.length - MARK.length);
  const show = (): void => {
    process.title = `${label} ${MARK}${shown}`;
  };
  show();
  return new Promise((resolve) => {
    readInput(
      (bytes) => {
        shown = (shown + bytes.toString("latin1").replaceAll("\0", "")).slice(-(dots.length - MARK.length));
        show();
      },
      () => resolve(0),
    );
  });
}
