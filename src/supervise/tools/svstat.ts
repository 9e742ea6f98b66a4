/** svstat DIR...: one line for each service. */
import { closeSync, existsSync, openSync, readSync, writeSync } from "node:fs";
import { errorCode, reason } from "../messages.ts";
import { OK, openFifoForWriting, STATUS, unpackStatus } from "../service-directory.ts";
import { now } from "../tai64n.ts";

/** The state of the service in the current directory, in svstat's words. */
function describe(): string {
  const normallyUp = !existsSync("down");
  try {
    closeSync(openFifoForWriting(OK));
  } catch (error) {
    return errorCode(error) === "ENXIO" ? "supervise not running" : `unable to open ${OK}: ${reason(error)}`;
  }
  const bytes = Buffer.alloc(64);
  let length = 0;
  let fd: number;
  try {
    fd = openSync(STATUS, "r");
  } catch (error) {
    return `unable to open ${STATUS}: ${reason(error)}`;
  }
  try {
    length = readSync(fd, bytes);
  } catch (error) {
    return `unable to read ${STATUS}: ${reason(error)}`;
  } finally {
    closeSync(fd);
  }
  const status = unpackStatus(bytes.subarray(0, length));
  if (status === undefined) return `unable to read ${STATUS}: bad format`;
  // As DJB's: the fractions of the two are not looked at.
  const seconds = Math.max(0, now().seconds - status.since.seconds);
  const isUp = status.pid !== 0;
  let text = isUp ? `up (pid ${status.pid}) ` : "down ";
  text += `${seconds} seconds`;
  if (isUp && !normallyUp) text += ", normally down";
  if (!isUp && normallyUp) text += ", normally up";
  if (isUp && status.paused) text += ", paused";
  if (!isUp && status.want === "up") text += ", want up";
  if (isUp && status.want === "down") text += ", want down";
  return text;
}

export function run(args: string[]): number {
  const start = process.cwd();
  for (const directory of args) {
    let text: string;
    try {
      process.chdir(directory);
      text = describe();
    } catch (error) {
      text = `unable to chdir: ${reason(error)}`;
    }
    process.chdir(start);
    writeSync(1, `${directory}: ${text}\n`);
  }
  return 0;
}
