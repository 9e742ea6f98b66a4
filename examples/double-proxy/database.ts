/** A database in memory that speaks a little of Redis' protocol (RESP): PING, SET, GET, INCR. `redis-cli` can talk to it. */
import { createServer, type Server } from "node:net";

const LONGEST = 64 * 1024;

export function database(): Server {
  const values = new Map<string, string>();
  const answer = ([name = "", key = "", value = ""]: readonly string[]): string => {
    switch (name.toUpperCase()) {
      case "PING":
        return "+PONG\r\n";
      case "SET":
        values.set(key, value);
        return "+OK\r\n";
      case "GET": {
        const found = values.get(key);
        return found === undefined ? "$-1\r\n" : `$${Buffer.byteLength(found)}\r\n${found}\r\n`;
      }
      case "INCR": {
        const next = Number(values.get(key) ?? 0) + 1;
        if (!Number.isSafeInteger(next)) return "-ERR value is not an integer or out of range\r\n";
        values.set(key, String(next));
        return `:${next}\r\n`;
      }
      default:
        return `-ERR unknown command '${name.replace(/[\r\n]/g, " ")}'\r\n`;
    }
  };
  return createServer((socket) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: string) => {
      text += chunk;
      for (let command = takeCommand(text); command !== undefined; command = takeCommand(text)) {
        text = text.slice(command.length);
        if (command.words.length > 0) socket.write(answer(command.words));
      }
      if (text.length > LONGEST) socket.end("-ERR too long\r\n");
    });
  });
}

/** The first command of the text: `*2\r\n$3\r\nGET\r\n$1\r\na\r\n`, or words on a line; undefined while it is not all there. */
function takeCommand(text: string): { readonly words: readonly string[]; readonly length: number } | undefined {
  if (!text.startsWith("*")) {
    const end = text.indexOf("\n");
    return end < 0 ? undefined : { words: text.slice(0, end).trim().split(/\s+/).filter(Boolean), length: end + 1 };
  }
  const parts = text.split("\r\n");
  const count = Number(parts[0].slice(1));
  if (parts.length < 2 * count + 2) return undefined;
  const used = parts.slice(0, 2 * count + 1);
  return { words: used.filter((_, index) => index > 0 && index % 2 === 0), length: used.join("\r\n").length + 2 };
}
