/** Which directories are services. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { reason } from "../messages.ts";

export interface FoundService {
  /** As svscan calls it: the name of the directory entry. */
  readonly name: string;
  readonly path: string;
}

/** What a directory turned out to be. */
export type Found =
  | { readonly kind: "services"; readonly services: readonly FoundService[] }
  /** Not there, not readable, or nothing in it is a service. */
  | { readonly kind: "none"; readonly why: string };

/** Has a `run`, or a supervise was here. */
export function isService(path: string): boolean {
  return existsSync(join(path, "run")) || existsSync(join(path, "supervise"));
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The services of a scan directory by name, or the one service that the directory itself is. A pod's run directory stands for its `service`. */
export function findServices(path: string): Found {
  if (isService(path)) return { kind: "services", services: [{ name: basename(resolve(path)), path }] };
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    return { kind: "none", why: reason(error) };
  }
  const services = names
    .filter((name) => !name.startsWith("."))
    .map((name) => ({ name, path: join(path, name) }))
    .filter((one) => isDirectory(one.path) && isService(one.path))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (services.length > 0) return { kind: "services", services };
  if (names.includes("service") && (names.includes("logs") || names.includes("envoy.yaml"))) return findServices(join(path, "service"));
  return { kind: "none", why: "no service directories in it (folders with a run file)" };
}
