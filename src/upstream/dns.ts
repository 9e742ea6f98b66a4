/**
 * Resolves host names without blocking: /etc/hosts, then c-ares, then (for names that c-ares does not know, such as short names in a search
 * domain) the system's own resolver.
 */
import { lookup, promises } from "node:dns";
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";

export interface Resolution {
  readonly ips: readonly string[];
  /** Seconds; undefined where the source has none. */
  readonly ttl: number | undefined;
}

export type DnsFamily = "auto" | "v4" | "v6" | "v4_preferred" | "all";

export interface ResolveOptions {
  readonly family: DnsFamily;
  /** Addresses with ports; empty: the system's. */
  readonly servers: readonly string[];
  readonly queryTimeoutMs: number;
  readonly queryTries: number;
}

/** Throws where no answer came; a name that does not exist is an answer: no addresses. */
export type Resolve = (name: string, options: ResolveOptions) => Promise<Resolution>;

const hostsPath = "/etc/hosts";
let hostsModifiedMs = -1;
let hostsByName = new Map<string, string[]>();

/** A handful of lines, read again only when the file has changed. */
function fromHostsFile(name: string): readonly string[] {
  try {
    const modified = statSync(hostsPath).mtimeMs;
    if (modified !== hostsModifiedMs) {
      hostsModifiedMs = modified;
      hostsByName = parseHosts(readFileSync(hostsPath, "utf8"));
    }
  } catch {
    hostsByName = new Map();
  }
  return hostsByName.get(name.toLowerCase()) ?? [];
}

export function parseHosts(text: string): Map<string, string[]> {
  const byName = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [ip, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (isIP(ip) === 0) continue;
    for (const name of names) {
      const key = name.toLowerCase();
      const list = byName.get(key);
      if (list === undefined) byName.set(key, [ip]);
      else if (!list.includes(ip)) list.push(ip);
    }
  }
  return byName;
}

export const resolveName: Resolve = async (name, { family, servers, queryTimeoutMs, queryTries }) => {
  if (isIP(name) !== 0) return { ips: [name], ttl: undefined };
  const found = await (servers.length === 0 ? byFile(name) : undefined);
  const pick = (v4: readonly string[], v6: readonly string[]): readonly string[] => {
    switch (family) {
      case "v4":
        return v4;
      case "v6":
        return v6;
      case "all":
        return [...v4, ...v6];
      case "v4_preferred":
        return v4.length > 0 ? v4 : v6;
      default:
        return v6.length > 0 ? v6 : v4;
    }
  };
  if (found !== undefined) {
    const ips = pick(
      found.filter((ip) => isIP(ip) === 4),
      found.filter((ip) => isIP(ip) === 6),
    );
    if (ips.length > 0) return { ips, ttl: undefined };
  }
  const resolver = new promises.Resolver({ timeout: queryTimeoutMs, tries: queryTries });
  if (servers.length > 0) resolver.setServers(servers);
  let failure: unknown;
  const query = async (four: boolean): Promise<{ address: string; ttl: number }[]> => {
    try {
      return four ? await resolver.resolve4(name, { ttl: true }) : await resolver.resolve6(name, { ttl: true });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENODATA" && code !== "ENOTFOUND") failure = error;
      return [];
    }
  };
  const wantsV4 = family !== "v6";
  const wantsV6 = family !== "v4";
  const [v4, v6] = await Promise.all([wantsV4 ? query(true) : [], wantsV6 ? query(false) : []]);
  if (v4.length === 0 && v6.length === 0 && servers.length === 0) {
    const system = await systemLookup(name);
    if (system.length > 0) {
      return {
        ips: pick(
          system.filter((ip) => isIP(ip) === 4),
          system.filter((ip) => isIP(ip) === 6),
        ),
        ttl: undefined,
      };
    }
  }
  const ips = pick(
    v4.map((record) => record.address),
    v6.map((record) => record.address),
  );
  if (ips.length === 0 && failure !== undefined) throw failure;
  const ttls = [...v4, ...v6].filter((record) => ips.includes(record.address)).map((record) => record.ttl);
  return { ips, ttl: ttls.length === 0 ? undefined : Math.min(...ttls) };
};

async function byFile(name: string): Promise<readonly string[] | undefined> {
  const ips = fromHostsFile(name);
  return ips.length > 0 ? ips : undefined;
}

function systemLookup(name: string): Promise<string[]> {
  return new Promise((resolve) => lookup(name, { all: true }, (error, addresses) => resolve(error ? [] : addresses.map(({ address }) => address))));
}
