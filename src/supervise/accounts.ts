/** Accounts of this system: /etc/passwd first, then whatever else the C library asks, through `getent`. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

function find(lines: string, name: string): Account | undefined {
  for (const line of lines.split("\n")) {
    const fields = line.split(":");
    if (fields[0] === name && fields.length >= 4 && /^[0-9]+$/.test(fields[2]) && /^[0-9]+$/.test(fields[3]))
      return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return undefined;
}

/** Undefined when nobody knows the name. */
export function findAccount(name: string): Account | undefined {
  if (name === "" || name.includes(":") || name.includes("\n")) return undefined;
  try {
    const found = find(readFileSync("/etc/passwd", "utf8"), name);
    if (found !== undefined) return found;
  } catch {
    // other sources may still know
  }
  const result = spawnSync("getent", ["passwd", "--", name], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return result.error === undefined ? find(result.stdout, name) : undefined;
}
