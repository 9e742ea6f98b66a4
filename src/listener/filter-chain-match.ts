/**
 * Which filter chain takes a connection. Envoy's order of criteria (FilterChainMatch): destination port, destination address, server name,
 * transport protocol, application protocols, direct source address, source type, source address, source port. At each criterion the chains
 * that fit it most closely stay; chains that say nothing of it stay only when none fits it.
 */
import type { FilterChainMatch } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { type Cidr, compileCidr, parseIp } from "../matching/cidr.ts";
import { isLoopback } from "../net/address.ts";
import type { Address } from "../net/connection.ts";

export const honours: Honours = {
  "envoy.config.listener.v3.FilterChainMatch": [
    "destination_port",
    "prefix_ranges",
    "direct_source_prefix_ranges",
    "source_type",
    "source_prefix_ranges",
    "source_ports",
    "server_names",
    "transport_protocol",
    "application_protocols",
  ],
};

/** What is known of a connection when its chain is chosen. */
export interface MatchFacts {
  readonly localAddress: Address;
  readonly remoteAddress: Address;
  readonly directRemoteAddress: Address;
  readonly serverName: string;
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
}

interface Criteria {
  readonly destinationPort: number;
  readonly destination: readonly Cidr[];
  /** Lower case; "*.x" as ".x". */
  readonly serverNames: readonly string[];
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSource: readonly Cidr[];
  readonly sourceType: 0 | 1 | 2;
  readonly source: readonly Cidr[];
  readonly sourcePorts: readonly number[];
}

/** How closely one criterion fits: -1 not, 0 it says nothing, more is closer. */
type Fit = (criteria: Criteria, facts: MatchFacts) => number;

const fits: readonly Fit[] = [
  (c, f) => (c.destinationPort === 0 ? 0 : f.localAddress.kind === "ip" && f.localAddress.port === c.destinationPort ? 1 : -1),
  (c, f) => fitsRange(c.destination, f.localAddress),
  (c, f) => fitsName(c.serverNames, f.serverName),
  (c, f) => (c.transportProtocol === "" ? 0 : c.transportProtocol === f.transportProtocol ? 1 : -1),
  (c, f) => {
    if (c.applicationProtocols.length === 0) return 0;
    // The client's order decides.
    const at = f.applicationProtocols.findIndex((protocol) => c.applicationProtocols.includes(protocol));
    return at < 0 ? -1 : f.applicationProtocols.length - at;
  },
  (c, f) => fitsRange(c.directSource, f.directRemoteAddress),
  (c, f) => {
    if (c.sourceType === 0) return 0;
    const local = isLoopback(f.remoteAddress) || (f.remoteAddress.kind === "ip" && f.localAddress.kind === "ip" && f.remoteAddress.ip === f.localAddress.ip);
    return local === (c.sourceType === 1) ? 1 : -1;
  },
  (c, f) => fitsRange(c.source, f.remoteAddress),
  (c, f) => (c.sourcePorts.length === 0 ? 0 : f.remoteAddress.kind === "ip" && c.sourcePorts.includes(f.remoteAddress.port) ? 1 : -1),
];

function fitsRange(ranges: readonly Cidr[], address: Address): number {
  if (ranges.length === 0) return 0;
  if (address.kind !== "ip") return -1;
  const ip = parseIp(address.ip);
  if (ip === undefined) return -1;
  const bits = ip.family === 4 ? 32 : 128;
  let best = -1;
  for (const range of ranges)
    if (range.family === ip.family && ip.value >> BigInt(bits - range.length) === range.network) best = Math.max(best, range.length + 1);
  return best;
}

function fitsName(names: readonly string[], serverName: string): number {
  if (names.length === 0) return 0;
  let best = -1;
  for (const name of names) {
    if (name.startsWith(".")) {
      if (serverName.length > name.length && serverName.endsWith(name)) best = Math.max(best, name.length);
    } else if (name === serverName) best = Math.max(best, 100_000);
  }
  return best;
}

interface Entry<T> {
  readonly criteria: Criteria;
  readonly chain: T;
}

export class FilterChainIndex<T> {
  readonly #entries: readonly Entry<T>[];
  readonly #otherwise: T | undefined;
  /** One chain that takes all: nothing to choose. */
  readonly #only: T | undefined;

  constructor(entries: readonly Entry<T>[], otherwise: T | undefined) {
    this.#entries = entries;
    this.#otherwise = otherwise;
    this.#only = entries.length === 1 && saysNothing(entries[0].criteria) ? entries[0].chain : undefined;
  }

  find(facts: MatchFacts): T | undefined {
    if (this.#only !== undefined) return this.#only;
    let left: readonly Entry<T>[] = this.#entries;
    for (const fit of fits) {
      if (left.length === 0) break;
      let best = 0;
      const scores = left.map(({ criteria }) => {
        const score = fit(criteria, facts);
        if (score > best) best = score;
        return score;
      });
      left = left.filter((_, i) => scores[i] === best);
    }
    return left[0]?.chain ?? this.#otherwise;
  }
}

function saysNothing(c: Criteria): boolean {
  return (
    c.destinationPort === 0 &&
    c.destination.length === 0 &&
    c.serverNames.length === 0 &&
    c.transportProtocol === "" &&
    c.applicationProtocols.length === 0 &&
    c.directSource.length === 0 &&
    c.sourceType === 0 &&
    c.source.length === 0 &&
    c.sourcePorts.length === 0
  );
}

export function compileFilterChainMatch(message: FilterChainMatch | undefined, context: CompileContext): Criteria {
  const ranges = (list: FilterChainMatch["prefixRanges"]): Cidr[] => list.map((range) => compileCidr(range, context)).filter((range) => range !== undefined);
  const serverNames: string[] = [];
  for (const name of message?.serverNames ?? []) {
    if (name === "*" || (name.includes("*") && !/^\*\.[^*]+$/.test(name))) {
      context.report(message as FilterChainMatch, "server_names", {
        code: "OR3021",
        text: `partial wildcards are not supported in "server_names" (${name})`,
        hint: 'a wildcard is a whole first label: "*.example.com"; leave server_names out to take all',
      });
      continue;
    }
    serverNames.push((name.startsWith("*.") ? name.slice(1) : name).toLowerCase());
  }
  return {
    destinationPort: message?.destinationPort ?? 0,
    destination: ranges(message?.prefixRanges ?? []),
    serverNames,
    transportProtocol: message?.transportProtocol ?? "",
    applicationProtocols: message?.applicationProtocols ?? [],
    directSource: ranges(message?.directSourcePrefixRanges ?? []),
    sourceType: message?.sourceType ?? 0,
    source: ranges(message?.sourcePrefixRanges ?? []),
    sourcePorts: message?.sourcePorts ?? [],
  };
}

/** More combinations than this are not written out: then only chains with equal criteria are found. */
const maxCombinations = 4096;

/**
 * Every combination of one value per criterion: chains that share one, and chains that name one twice, cannot be told apart. Envoy refuses
 * them as overlapping, while a less specific range beside a more specific one is fine.
 */
export function criteriaCombinations(criteria: Criteria): string[] {
  const ranges = (list: readonly Cidr[]): string[] => list.map((range) => `${range.family}:${range.network}/${range.length}`);
  const lists: (readonly (string | number)[])[] = [
    [criteria.destinationPort],
    ranges(criteria.destination),
    criteria.serverNames,
    [criteria.transportProtocol],
    criteria.applicationProtocols,
    ranges(criteria.directSource),
    [criteria.sourceType],
    ranges(criteria.source),
    criteria.sourcePorts,
  ];
  let combinations = [""];
  for (const list of lists) {
    if (combinations.length * Math.max(1, list.length) > maxCombinations) return [];
    combinations = list.length === 0 ? combinations.map((head) => `${head}|`) : combinations.flatMap((head) => list.map((value) => `${head}|${value}`));
  }
  return combinations;
}

/** Equal keys: the same connections. */
export function criteriaKey(criteria: Criteria): string {
  const sorted = (list: readonly Cidr[]): string[] => list.map((range) => `${range.family}:${range.network}/${range.length}`).sort();
  return JSON.stringify([
    criteria.destinationPort,
    sorted(criteria.destination),
    [...criteria.serverNames].sort(),
    criteria.transportProtocol,
    [...criteria.applicationProtocols].sort(),
    sorted(criteria.directSource),
    criteria.sourceType,
    sorted(criteria.source),
    [...criteria.sourcePorts].sort(),
  ]);
}
