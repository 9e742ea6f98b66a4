/** Hosts by hash: ring hash (Ketama) and Maglev. The same key goes to the same host as with Envoy: hashes, tables and their order are its own. */
import { hashBytes } from "../router/hash-policy.ts";
import type { Gauge, StatsScope } from "../stats/stats.ts";
import type { BalancedHost } from "./host-pickers.ts";
import { murmurHash2 } from "./murmur-hash.ts";
import type { HashSettings } from "./settings.ts";
import type { Host } from "./upstream.ts";

export interface HashTable {
  /** `attempt`: above 0 when a retry does not want the hosts of earlier attempts. */
  choose(hash: bigint, attempt: number): Host;
}

interface WeightedHost {
  readonly host: BalancedHost;
  /** All weights of a table sum up to 1. */
  readonly weight: number;
}

/** Sizes of the last table that was built. */
export class HashTableStats {
  readonly #size: Gauge | undefined;
  readonly #least: Gauge;
  readonly #most: Gauge;
  constructor(scope: StatsScope, kind: HashSettings["kind"]) {
    this.#size = kind === "ring_hash" ? scope.gauge("ring_hash_lb.size") : undefined;
    this.#least = scope.gauge(kind === "ring_hash" ? "ring_hash_lb.min_hashes_per_host" : "maglev_lb.min_entries_per_host");
    this.#most = scope.gauge(kind === "ring_hash" ? "ring_hash_lb.max_hashes_per_host" : "maglev_lb.max_entries_per_host");
  }
  set(size: number, counts: readonly number[]): void {
    this.#size?.set(size);
    this.#least.set(counts.reduce((least, count) => Math.min(least, count), size));
    this.#most.set(counts.reduce((most, count) => Math.max(most, count), 0));
  }
}

/** For hosts that are not none. `localityWeights`: how much of all each host's locality gets; absent: localities do not matter. */
export function hashTable(hosts: readonly BalancedHost[], settings: HashSettings, localityWeighted: boolean, stats: HashTableStats | undefined): HashTable {
  const weighted = normalized(hosts, localityWeighted);
  return settings.kind === "ring_hash" ? new Ring(weighted, settings, stats) : new Maglev(weighted, settings, stats);
}

function normalized(hosts: readonly BalancedHost[], localityWeighted: boolean): WeightedHost[] {
  const share = (list: readonly BalancedHost[], part: number): WeightedHost[] => {
    const sum = list.reduce((total, host) => total + host.weight, 0);
    return list.map((host) => ({ host, weight: (host.weight / sum) * part }));
  };
  if (!localityWeighted) return share(hosts, 1);
  const localities = new Map<string, BalancedHost[]>();
  for (const host of hosts) {
    const key = JSON.stringify(host.locality);
    const list = localities.get(key);
    if (list === undefined) localities.set(key, [host]);
    else list.push(host);
  }
  const total = [...localities.values()].reduce((sum, [first]) => sum + first.localityWeight, 0);
  if (total === 0) return share(hosts, 1);
  return [...localities.values()].filter(([first]) => first.localityWeight > 0).flatMap((list) => share(list, list[0].localityWeight / total));
}

/** What a host is hashed by: envoy.lb's hash_key, its name where that is wanted, else its address. */
function keyOf(host: BalancedHost, byHostname: boolean): string {
  const own = host.metadata["envoy.lb"]?.["hash_key"];
  const key = typeof own === "string" && own !== "" ? own : byHostname && host.hostname !== "" ? host.hostname : host.address.text;
  return Buffer.from(key).toString("latin1");
}

class Ring implements HashTable {
  /** Ascending; high and low halves apart, since numbers compare faster than bigints. */
  readonly #high: Uint32Array;
  readonly #low: Uint32Array;
  readonly #hosts: readonly Host[];

  constructor(weighted: readonly WeightedHost[], settings: HashSettings, stats: HashTableStats | undefined) {
    const least = weighted.reduce((min, { weight }) => Math.min(min, weight), 1);
    // The lightest host gets a whole number of places, unless the ring would grow too large.
    const scale = Math.min(Math.ceil(least * settings.minimumRingSize) / least, settings.maximumRingSize);
    const entries: { readonly hash: bigint; readonly host: Host }[] = [];
    const counts: number[] = [];
    let placed = 0;
    let target = 0;
    for (const { host, weight } of weighted) {
      const key = keyOf(host, settings.byHostname);
      target += scale * weight;
      let i = 0;
      for (; placed < target; i++, placed++) entries.push({ hash: hashOf(`${key}_${i}`, settings), host });
      counts.push(i);
    }
    entries.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0));
    this.#high = Uint32Array.from(entries, ({ hash }) => Number(hash >> 32n));
    this.#low = Uint32Array.from(entries, ({ hash }) => Number(hash & 0xffffffffn));
    this.#hosts = entries.map(({ host }) => host);
    stats?.set(entries.length, counts);
  }

  /** The first place at or behind the hash; behind the last one comes the first. */
  choose(hash: bigint, attempt: number): Host {
    const high = Number((hash >> 32n) & 0xffffffffn);
    const low = Number(hash & 0xffffffffn);
    const size = this.#hosts.length;
    let from = 0;
    let to = size;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const difference = this.#high[middle] - high;
      if (difference < 0 || (difference === 0 && this.#low[middle] < low)) from = middle + 1;
      else to = middle;
    }
    return this.#hosts[((from === size ? 0 : from) + attempt) % size];
  }
}

function hashOf(key: string, settings: HashSettings): bigint {
  return settings.hashFunction === "murmur_hash_2" ? murmurHash2(Buffer.from(key, "latin1")) : hashBytes(key);
}

class Maglev implements HashTable {
  readonly #table: readonly Host[];
  readonly #size: bigint;

  constructor(weighted: readonly WeightedHost[], settings: HashSettings, stats: HashTableStats | undefined) {
    const size = settings.tableSize;
    this.#size = BigInt(size);
    const entries = weighted.map(({ host, weight }) => {
      const key = keyOf(host, settings.byHostname);
      return {
        host,
        weight,
        offset: Number(hashBytes(key) % this.#size),
        skip: Number(hashBytes(key, 1n) % (this.#size - 1n)) + 1,
        at: 0,
        target: 0,
        count: 0,
      };
    });
    for (const entry of entries) entry.at = entry.offset;
    const most = weighted.reduce((max, { weight }) => Math.max(max, weight), 0);
    const table = new Array<Host | undefined>(size).fill(undefined);
    let filled = 0;
    // Hosts take turns at their next free place; a host of a third of the greatest weight every third time.
    for (let round = 1; filled < size; round++) {
      for (const entry of entries) {
        if (filled === size) break;
        if (round * entry.weight < entry.target) continue;
        entry.target += most;
        while (table[entry.at] !== undefined) entry.at = (entry.at + entry.skip) % size;
        table[entry.at] = entry.host;
        entry.at = (entry.at + entry.skip) % size;
        entry.count++;
        filled++;
      }
    }
    this.#table = table as Host[];
    stats?.set(
      size,
      entries.map(({ count }) => count),
    );
  }

  choose(hash: bigint, attempt: number): Host {
    // Another attempt looks elsewhere: all bits but those of the attempt's number are turned.
    const wanted = attempt > 0 ? hash ^ BigInt.asUintN(64, -BigInt(attempt)) : hash;
    return this.#table[Number(wanted % this.#size)];
  }
}
