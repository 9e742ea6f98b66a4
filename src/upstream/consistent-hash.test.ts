import assert from "node:assert/strict";
import { test } from "node:test";
import { hashBytes } from "../router/hash-policy.ts";
import { StatsStore } from "../stats/stats.ts";
import { HashTableStats, hashTable } from "./consistent-hash.ts";
import { HostImpl } from "./host.ts";
import { murmurHash2 } from "./murmur-hash.ts";
import type { HashSettings } from "./settings.ts";
import { anyHost, assignment, at, TestCluster } from "./testing.ts";

const ring: HashSettings = { kind: "ring_hash", hashFunction: "xx_hash", minimumRingSize: 1024, maximumRingSize: 8388608, tableSize: 65537, byHostname: false };
const maglev: HashSettings = { ...ring, kind: "maglev" };

function hosts(...endpoints: object[]): HostImpl[] {
  const cluster = new TestCluster({ load_assignment: assignment(...endpoints) });
  return cluster.settings.staticHosts.map((data) => new HostImpl(cluster.core, data));
}

/** Ports that keys go to. */
function ports(members: HostImpl[], settings: HashSettings, keys: readonly string[], attempt = 0): number[] {
  const table = hashTable(members, settings, false, undefined);
  return keys.map((key) => {
    const { address } = table.choose(hashBytes(key), attempt);
    return address.kind === "ip" ? address.port : 0;
  });
}

const keys = Array.from({ length: 12 }, (_, i) => `key-${i}`);
const five = [at(21001), at(21002), at(21003), at(21004), at(21005)];

test("keys go where Envoy 1.40 sends them", () => {
  assert.deepEqual(ports(hosts(...five), ring, keys), [21001, 21001, 21005, 21005, 21001, 21004, 21002, 21002, 21003, 21001, 21003, 21002]);
  assert.deepEqual(
    ports(hosts(...five), { ...ring, hashFunction: "murmur_hash_2", minimumRingSize: 100 }, keys),
    [21002, 21004, 21005, 21005, 21005, 21001, 21003, 21004, 21005, 21004, 21002, 21004],
  );
  assert.deepEqual(ports(hosts(...five), maglev, keys), [21005, 21001, 21004, 21003, 21004, 21002, 21003, 21002, 21005, 21001, 21005, 21001]);
});

test("most keys stay when a host goes", () => {
  const many = Array.from({ length: 1000 }, (_, i) => `key-${i}`);
  for (const settings of [ring, maglev]) {
    const before = ports(hosts(...five), settings, many);
    const after = ports(hosts(...five.slice(0, 4)), settings, many);
    const moved = before.filter((port, i) => port !== 21005 && port !== after[i]).length;
    assert.ok(moved < 150, `${settings.kind}: ${moved}`);
  }
});

test("weights and ring sizes show in the sizes of tables", () => {
  const stats = new StatsStore();
  const gauges = (...names: string[]): number[] => names.map((name) => stats.gauge(name).value);
  const weighted = hosts(at(1, { load_balancing_weight: 1 }), at(2, { load_balancing_weight: 3 }));
  hashTable(weighted, ring, false, new HashTableStats(stats.scope(""), "ring_hash"));
  assert.deepEqual(gauges("ring_hash_lb.size", "ring_hash_lb.min_hashes_per_host", "ring_hash_lb.max_hashes_per_host"), [1024, 256, 768]);
  hashTable(weighted, { ...ring, maximumRingSize: 10, minimumRingSize: 10 }, false, new HashTableStats(stats.scope(""), "ring_hash"));
  assert.deepEqual(gauges("ring_hash_lb.size"), [10]);
  hashTable(weighted, { ...maglev, tableSize: 101 }, false, new HashTableStats(stats.scope(""), "maglev"));
  assert.deepEqual(gauges("maglev_lb.min_entries_per_host", "maglev_lb.max_entries_per_host"), [26, 75]);
});

test("a host can bring its own key, or be hashed by its name", () => {
  const named = (port: number, name: string): object => ({
    endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } }, hostname: name },
  });
  const byName = { ...ring, byHostname: true };
  // The same names at other addresses take the same keys.
  const first = ports(hosts(named(1, "a"), named(2, "b")), byName, keys);
  const second = ports(hosts(named(11, "a"), named(12, "b")), byName, keys);
  assert.deepEqual(
    first.map((port) => port + 10),
    second,
  );
  const tagged = (port: number, key: string): object => at(port, { metadata: { filter_metadata: { "envoy.lb": { hash_key: key } } } });
  assert.deepEqual(ports(hosts(tagged(1, "a"), tagged(2, "b")), ring, keys), first);
});

test("a retry that wants another host looks further along", () => {
  for (const settings of [ring, maglev]) {
    assert.notDeepEqual(ports(hosts(...five), settings, keys, 0), ports(hosts(...five), settings, keys, 1));
  }
  const cluster = new TestCluster({ lb_policy: "RING_HASH", load_assignment: assignment(at(1), at(2)) });
  const [avoid] = cluster.core.hosts();
  for (let i = 0; i < 20; i++) {
    const pool = cluster.core.httpPool("default", undefined, {
      ...anyHost,
      hash: hashBytes(`k${i}`),
      hostSelectionMaxAttempts: 64,
      shouldSelectAnotherHost: (host) => host === avoid,
    });
    assert.notEqual(pool?.host, avoid);
  }
});

test("requests without a hash go anywhere", () => {
  const cluster = new TestCluster({ lb_policy: "MAGLEV", maglev_lb_config: { table_size: 101 }, load_assignment: assignment(at(1), at(2), at(3)) });
  const seen = new Set(Array.from({ length: 100 }, () => cluster.core.httpPool("default", undefined, anyHost)?.host));
  assert.equal(seen.size, 3);
});

test("murmur hashes are those of std::hash in libstdc++", () => {
  assert.deepEqual(
    ["", "a", "abcdefg", "abcdefgh", "abcdefghi"].map((text) => murmurHash2(Buffer.from(text))),
    [6142509188972423790n, 4993892634952068459n, 16063891478991045295n, 8664279048047335611n, 13036955925923793583n],
  );
});
