/** A directory of variables, as envdir reads it: one file each, its name the variable's, its first line the value. */
import { readdirSync, readFileSync } from "node:fs";
import { errorCode } from "./messages.ts";

const NUL = 0;
const NEWLINE = 0x0a;
const DOT = 0x2e;

/** What could not be read, in envdir's words. */
export class EnvironmentDirectoryError extends Error {
  readonly reason: unknown;
  constructor(message: string, reason: unknown) {
    super(message);
    this.reason = reason;
  }
}

/** The first line without blanks at its end, NULs turned into newlines. */
function value(content: Buffer): string {
  const newline = content.indexOf(NEWLINE);
  const line = content.subarray(0, newline < 0 ? content.length : newline);
  let end = line.length;
  while (end > 0 && (line[end - 1] === 0x20 || line[end - 1] === 0x09)) end--;
  return Buffer.from(line.subarray(0, end).map((byte) => (byte === NUL ? NEWLINE : byte))).toString("latin1");
}

/** Names and values as bytes (latin1); undefined: the variable is to be removed. Throws an EnvironmentDirectoryError. */
export function readEnvironmentDirectory(directory: string, shownAs = directory): Map<string, string | undefined> {
  const variables = new Map<string, string | undefined>();
  let names: Buffer[];
  try {
    names = readdirSync(directory, { encoding: "buffer" });
  } catch (error) {
    throw new EnvironmentDirectoryError(`unable to switch to directory ${shownAs}`, error);
  }
  for (const name of names) {
    if (name[0] === DOT) continue;
    const key = name.toString("latin1");
    try {
      const content = readFileSync(Buffer.concat([Buffer.from(`${directory}/`), name]));
      variables.set(key, content.length === 0 ? undefined : value(content));
    } catch (error) {
      // A link to nowhere stands for an empty file.
      if (errorCode(error) !== "ENOENT") throw new EnvironmentDirectoryError(`unable to read ${shownAs}/${name}`, error);
      variables.set(key, undefined);
    }
  }
  return variables;
}
