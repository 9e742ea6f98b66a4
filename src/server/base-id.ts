/**
 * The base id: a number that keeps the proxies of one host apart. A process holds a base id as long as it listens on the id's
 * control socket; over it a successor (--restart-epoch) asks its parent to hand over.
 */

import { rmSync } from "node:fs";
import { createConnection, createServer, type Server as NetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function controlSocketPath(baseId: number, epoch: number): string {
  const user = process.getuid?.() ?? 0;
  return join(process.env["XDG_RUNTIME_DIR"] ?? tmpdir(), `outrider-${user}-${baseId}-${epoch}.sock`);
}

/** Commands of the control socket: one word a line, one line of answer. */
export type ControlCommand = "drain" | "terminate" | "reload" | "ping" | "stop_admin";
export type ControlHandler = (command: ControlCommand) => Promise<string>;

const commands: ReadonlySet<string> = new Set<ControlCommand>(["drain", "terminate", "reload", "ping", "stop_admin"]);

/** Listens for commands; undefined when another process holds this id and epoch. */
export async function listenControl(path: string, handle: ControlHandler): Promise<NetServer | undefined> {
  if ((await sendControl(path, "ping", 500)) !== undefined) return undefined;
  rmSync(path, { force: true }); // left behind by a process that was killed
  const server = createServer((socket) => {
    let text = "";
    socket.setTimeout(30_000, () => socket.destroy());
    socket.on("error", () => {});
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      text += chunk;
      if (text.length > 64) socket.destroy();
      const end = text.indexOf("\n");
      if (end < 0) return;
      const word = text.slice(0, end);
      text = "";
      if (!commands.has(word)) {
        socket.end("error: unknown command\n");
        return;
      }
      handle(word as ControlCommand).then(
        (answer) => socket.end(`${answer}\n`),
        (error: unknown) => socket.end(`error: ${error instanceof Error ? error.message : String(error)}\n`),
      );
    });
  });
  const oldMask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return undefined;
    throw error;
  } finally {
    process.umask(oldMask);
  }
  server.unref();
  return server;
}

/** Sends one command; the answer, or undefined when nobody listens. */
export async function sendControl(path: string, command: ControlCommand, timeoutMs = 60_000): Promise<string | undefined> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = createConnection(path, () => socket.write(`${command}\n`));
    socket.setTimeout(timeoutMs, () => socket.destroy());
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      if (answer.length < 65536) answer += chunk;
    });
    socket.on("error", () => resolve(undefined));
    socket.on("close", () => resolve(answer === "" ? undefined : answer.trimEnd()));
  });
}
