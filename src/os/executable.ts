/** What the kernel can start. */
import { closeSync, openSync, readSync } from "node:fs";
import { systemError } from "./os.ts";

/** execve's ENOEXEC: the C library would quietly hand such a file to a shell. */
export function checkExecutableFormat(path: string): void {
  const head = Buffer.alloc(4);
  let length: number;
  try {
    const fd = openSync(path, "r");
    try {
      length = readSync(fd, head);
    } finally {
      closeSync(fd);
    }
  } catch {
    return; // not there or not to be read: execve has the last word
  }
  const isScript = length >= 2 && head.toString("latin1", 0, 2) === "#!";
  const isBinary = length >= 2 && (head[0] === 0x7f || head[0] === 0x4d || head[0] === 0xcf || head[0] === 0xca);
  if (!isScript && !isBinary) throw systemError("ENOEXEC", "execve", path);
}
