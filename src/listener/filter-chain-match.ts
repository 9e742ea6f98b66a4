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

export interface Criteria {
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

/** The key of a criterion that a chain says nothing of. */
const anything = "";

const rangeKey = (family: 4 | 6, network: bigint, length: number): string => `${family}:${network}/${length}`;

/** One criterion: what chains say of it as keys, and the keys that fit a connection, the closest first. */
interface Criterion {
  keys(criteria: Criteria): readonly string[];
  candidates(facts: MatchFacts, node: Node<unknown>): Iterable<string>;
}

const ranges = (of: (criteria: Criteria) => readonly Cidr[], at: (facts: MatchFacts) => Address): Criterion => ({
  keys: (criteria) => of(criteria).map((range) => rangeKey(range.family, range.network, range.length)),
  *candidates(facts, node) {
    const address = at(facts);
    // Most listeners have no ranges: nothing to parse then.
    const ip = node.lengths.length === 0 || address.kind !== "ip" ? undefined : parseIp(address.ip);
    if (ip !== undefined) {
      const bits = ip.family === 4 ? 32 : 128;
      for (const { family, length } of node.lengths) if (family === ip.family) yield rangeKey(family, ip.value >> BigInt(bits - length), length);
    }
    yield anything;
  },
});

const port = (address: Address): string => (address.kind === "ip" ? String(address.port) : "none");

const order: readonly Criterion[] = [
  {
    keys: (c) => (c.destinationPort === 0 ? [] : [String(c.destinationPort)]),
    candidates: (f) => [port(f.localAddress), anything],
  },
  ranges(
    (c) => c.destination,
    (f) => f.localAddress,
  ),
  {
    keys: (c) => c.serverNames,
    *candidates({ serverName }) {
      if (serverName !== "" && !serverName.startsWith(".")) {
        yield serverName;
        for (let dot = serverName.indexOf(".", 1); dot > 0; dot = serverName.indexOf(".", dot + 1)) yield serverName.slice(dot);
      }
      yield anything;
    },
  },
  {
    keys: (c) => (c.transportProtocol === "" ? [] : [c.transportProtocol]),
    candidates: (f) => [f.transportProtocol, anything],
  },
  {
    keys: (c) => c.applicationProtocols,
    // The client's order decides.
    candidates: (f) => [...f.applicationProtocols, anything],
  },
  ranges(
    (c) => c.directSource,
    (f) => f.directRemoteAddress,
  ),
  {
    keys: (c) => (c.sourceType === 0 ? [] : [String(c.sourceType)]),
    candidates({ remoteAddress, localAddress }) {
      const local = isLoopback(remoteAddress) || (remoteAddress.kind === "ip" && localAddress.kind === "ip" && remoteAddress.ip === localAddress.ip);
      return [local ? "1" : "2", anything];
    },
  },
  ranges(
    (c) => c.source,
    (f) => f.remoteAddress,
  ),
  {
    keys: (c) => c.sourcePorts.map(String),
    candidates: (f) => [port(f.remoteAddress), anything],
  },
];

/** The chains that agree on the criteria so far, by what they say of the next one. */
class Node<T> {
  readonly next = new Map<string, Node<T>>();
  /** Lengths of the ranges in `next`, the longest first. */
  readonly lengths: { readonly family: 4 | 6; readonly length: number }[] = [];
  chain: T | undefined = undefined;
}

interface Entry<T> {
  readonly criteria: Criteria;
  readonly chain: T;
}

/** A tree with a level for each criterion: choosing a chain costs the same for one chain and for a thousand. */
export class FilterChainIndex<T> {
  readonly #root = new Node<T>();
  readonly #otherwise: T | undefined;
  /** One chain that takes all: nothing to choose. */
  readonly #only: T | undefined;

  constructor(entries: readonly Entry<T>[], otherwise: T | undefined) {
    this.#otherwise = otherwise;
    this.#only = entries.length === 1 && order.every((criterion) => criterion.keys(entries[0].criteria).length === 0) ? entries[0].chain : undefined;
    for (const { criteria, chain } of entries) insert(this.#root, 0, criteria, chain);
  }

  find(facts: MatchFacts): T | undefined {
    if (this.#only !== undefined) return this.#only;
    let node = this.#root;
    for (const criterion of order) {
      let found: Node<T> | undefined;
      for (const key of criterion.candidates(facts, node)) {
        found = node.next.get(key);
        if (found !== undefined) break;
      }
      // Chains that fitted less closely before do not get another chance.
      if (found === undefined) return this.#otherwise;
      node = found;
    }
    return node.chain ?? this.#otherwise;
  }
}

function insert<T>(node: Node<T>, level: number, criteria: Criteria, chain: T): void {
  if (level === order.length) {
    node.chain ??= chain;
    return;
  }
  const keys = order[level].keys(criteria);
  for (const key of keys.length === 0 ? [anything] : keys) {
    let next = node.next.get(key);
    if (next === undefined) {
      next = new Node();
      node.next.set(key, next);
      addLength(node, key);
    }
    insert(next, level + 1, criteria, chain);
  }
}

/** Only keys of ranges have a colon and a slash. */
function addLength(node: Node<unknown>, key: string): void {
  const match = /^([46]):\d+\/(\d+)$/.exec(key);
  if (match === null) return;
  const family = match[1] === "4" ? 4 : 6;
  const length = Number(match[2]);
  if (node.lengths.some((one) => one.family === family && one.length === length)) return;
  node.lengths.push({ family, length });
  node.lengths.sort((a, b) => b.length - a.length);
}

export function compileFilterChainMatch(message: FilterChainMatch | undefined, context: CompileContext): Criteria {
  const cidrs = (list: FilterChainMatch["prefixRanges"]): Cidr[] => list.map((range) => compileCidr(range, context)).filter((range) => range !== undefined);
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
    destination: cidrs(message?.prefixRanges ?? []),
    serverNames,
    transportProtocol: message?.transportProtocol ?? "",
    applicationProtocols: message?.applicationProtocols ?? [],
    directSource: cidrs(message?.directSourcePrefixRanges ?? []),
    sourceType: message?.sourceType ?? 0,
    source: cidrs(message?.sourcePrefixRanges ?? []),
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
  let combinations = [""];
  for (const criterion of order) {
    const list = criterion.keys(criteria);
    if (combinations.length * Math.max(1, list.length) > maxCombinations) return [];
    combinations = list.length === 0 ? combinations.map((head) => `${head}|`) : combinations.flatMap((head) => list.map((value) => `${head}|${value}`));
  }
  return combinations;
}

/** Equal keys: the same connections. */
export function criteriaKey(criteria: Criteria): string {
  return JSON.stringify(order.map((criterion) => [...criterion.keys(criteria)].sort()));
}
