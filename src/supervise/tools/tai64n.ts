/** tai64n: puts the time at which a line began in front of it. */
import { EXIT_TROUBLE } from "../messages.ts";
import { readInput } from "../multilog/input.ts";
import { stamp } from "../tai64n.ts";
import { writeAll } from "../write-all.ts";

const NEWLINE = 0x0a;

export function run(): number | Promise<number> {
  let isInLine = false;
  const stampLines = (bytes: Buffer): void => {
    const parts: Buffer[] = [];
    for (let from = 0; from < bytes.length; ) {
      if (!isInLine) parts.push(Buffer.from(`${stamp()} `, "latin1"));
      const newline = bytes.indexOf(NEWLINE, from);
      const end = newline < 0 ? bytes.length : newline + 1;
      parts.push(bytes.subarray(from, end));
      isInLine = newline < 0;
      from = end;
    }
    writeAll(1, Buffer.concat(parts));
  };
  return new Promise((resolve) => {
    try {
      const input = readInput(
        (bytes) => {
          try {
            stampLines(bytes);
          } catch {
            input.stop();
            resolve(EXIT_TROUBLE);
          }
        },
        (error) => resolve(error === undefined ? 0 : EXIT_TROUBLE),
      );
    } catch {
      resolve(EXIT_TROUBLE);
    }
  });
}
