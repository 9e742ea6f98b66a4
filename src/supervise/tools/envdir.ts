/** envdir DIR CHILD: sets a variable for each file in DIR, then becomes CHILD. */
import { readdirSync, readFileSync } from "node:fs";
import { chain, rawEnvironment } from "../chain.ts";
import { EXIT_TROUBLE, errorCode, fatal, usage } from "../messages.ts";

const NUL = 0;
const NEWLINE = 0x0a;

/** The first line without blanks at its end, NULs turned into newlines. */
function value(content: Buffer): string {
  const newline = content.indexOf(NEWLINE);
  const line = content.subarray(0, newline < 0 ? content.length : newline);
  let end = line.length;
  while (end > 0 && (line[end - 1] === 0x20 || line[end - 1] === 0x09)) end--;
  return Buffer.from(line.subarray(0, end).map((byte) => (byte === NUL ? NEWLINE : byte))).toString("latin1");
}

export function run(args: string[]): number {
  if (args.length < 2) return usage("envdir", "envdir dir child", EXIT_TROUBLE);
  const [directory, ...child] = args;
  const variables = rawEnvironment();
  // The child is looked for on the PATH that envdir was called with.
  const path = variables.get("PATH");
  let names: Buffer[];
  try {
    names = readdirSync(directory, { encoding: "buffer" });
  } catch (error) {
    return fatal("envdir", `unable to switch to directory ${directory}`, error);
  }
  for (const name of names) {
    if (name[0] === 0x2e) continue;
    const file = Buffer.concat([Buffer.from(`${directory}/`), name]);
    const key = name.toString("latin1");
    let content: Buffer;
    try {
      content = readFileSync(file);
    } catch (error) {
      if (errorCode(error) === "ENOENT") {
        variables.delete(key); // a link to nowhere stands for an empty file
        continue;
      }
      return fatal("envdir", `unable to read ${directory}/${name}`, error);
    }
    if (content.length === 0) variables.delete(key);
    else variables.set(key, value(content));
  }
  return chain("envdir", child, { env: variables, path: path ?? "/bin:/usr/bin" });
}
