import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseIp } from "../matching/cidr.ts";
import { ipAddress } from "../net/address.ts";
import { message, testContext } from "../testing/compile-context.ts";
import { type Criteria, compileFilterChainMatch, criteriaCombinations, FilterChainIndex, type MatchFacts } from "./filter-chain-match.ts";

function criteria(json: object): Criteria {
  const context = testContext();
  const found = compileFilterChainMatch(message("envoy.config.listener.v3.FilterChainMatch", json), context);
  assert.deepEqual(context.findings, []);
  return found;
}
function facts(of: Partial<MatchFacts> & { from?: string; to?: string } = {}): MatchFacts {
  const [fromIp, fromPort] = (of.from ?? "192.0.2.1:5000").split(":");
  const [toIp, toPort] = (of.to ?? "127.0.0.1:443").split(":");
  return {
    remoteAddress: ipAddress(fromIp, Number(fromPort)),
    directRemoteAddress: ipAddress(fromIp, Number(fromPort)),
    localAddress: ipAddress(toIp, Number(toPort)),
    serverName: "",
    transportProtocol: "raw_buffer",
    applicationProtocols: [],
    ...of,
  };
}
const index = (matches: Record<string, object>, otherwise?: string): FilterChainIndex<string> =>
  new FilterChainIndex(
    Object.entries(matches).map(([chain, json]) => ({ chain, criteria: criteria(json) })),
    otherwise,
  );

test("the closest name wins: exact, then the longest wildcard, then chains without names", () => {
  const chains = index({ exact: { server_names: ["a.b.test"] }, near: { server_names: ["*.b.test"] }, far: { server_names: ["*.test"] }, any: {} });
  assert.equal(chains.find(facts({ serverName: "a.b.test" })), "exact");
  assert.equal(chains.find(facts({ serverName: "x.y.b.test" })), "near");
  assert.equal(chains.find(facts({ serverName: "b.test" })), "far");
  assert.equal(chains.find(facts({ serverName: "test" })), "any");
  assert.equal(chains.find(facts()), "any");
});

test("criteria are looked at in Envoy's order and nothing is tried twice", () => {
  // The destination port decides first: that chain's name does not fit, and the chain without a port gets no chance.
  const chains = index({ port: { destination_port: 443, server_names: ["a.test"] }, name: { server_names: ["b.test"] } }, "default");
  assert.equal(chains.find(facts({ serverName: "a.test" })), "port");
  assert.equal(chains.find(facts({ serverName: "b.test" })), "default");
  assert.equal(chains.find(facts({ serverName: "b.test", to: "127.0.0.1:80" })), "name");
});

test("the client's order of protocols decides", () => {
  const chains = index({ h2: { application_protocols: ["h2"] }, h1: { application_protocols: ["http/1.1"] } });
  assert.equal(chains.find(facts({ applicationProtocols: ["http/1.1", "h2"] })), "h1");
  assert.equal(chains.find(facts({ applicationProtocols: ["x", "h2"] })), "h2");
  assert.equal(chains.find(facts({ applicationProtocols: ["x"] })), undefined);
});

test("local sources are loopback or our own address", () => {
  const chains = index({ local: { source_type: "SAME_IP_OR_LOOPBACK" }, other: { source_type: "EXTERNAL" } });
  assert.equal(chains.find(facts({ from: "127.0.0.9:1" })), "local");
  assert.equal(chains.find(facts({ from: "192.0.2.9:1", to: "192.0.2.9:80" })), "local");
  assert.equal(chains.find(facts({ from: "192.0.2.9:1", to: "192.0.2.8:80" })), "other");
});

// ---- against a plain reading of the documentation -------------------------------------------------------------------------------

type Rule = {
  destination_port?: number;
  prefix_ranges?: { address_prefix: string; prefix_len: number }[];
  server_names?: string[];
  transport_protocol?: string;
  application_protocols?: string[];
  source_type?: "ANY" | "SAME_IP_OR_LOOPBACK" | "EXTERNAL";
  source_prefix_ranges?: { address_prefix: string; prefix_len: number }[];
  source_ports?: number[];
};

/** How many leading bits of an address a range fixes where it contains the address, or -1. */
function contains(range: { address_prefix: string; prefix_len: number }, ip: string): number {
  const bits = (text: string): string => {
    const parsed = parseIp(text);
    return parsed === undefined ? "" : parsed.value.toString(2).padStart(32, "0");
  };
  return bits(ip).startsWith(bits(range.address_prefix).slice(0, range.prefix_len)) ? range.prefix_len : -1;
}

/** Each step keeps the chains that fit best; chains that say nothing fit worst, chains that say something else not at all. */
function plainChoice(rules: readonly Rule[], f: MatchFacts): number | undefined {
  const ip = (address: MatchFacts["localAddress"]): string => (address.kind === "ip" ? address.ip : "");
  const port = (address: MatchFacts["localAddress"]): number => (address.kind === "ip" ? address.port : 0);
  const local = ip(f.remoteAddress).startsWith("127.") || ip(f.remoteAddress) === ip(f.localAddress);
  const none = -1_000_000;
  const best = (list: readonly number[]): number => Math.max(none, ...list);
  const steps: ((rule: Rule) => number)[] = [
    (r) => (r.destination_port === undefined ? 0 : r.destination_port === port(f.localAddress) ? 1 : none),
    (r) => (r.prefix_ranges === undefined ? 0 : best(r.prefix_ranges.map((range) => (contains(range, ip(f.localAddress)) < 0 ? none : 1 + range.prefix_len)))),
    (r) =>
      r.server_names === undefined
        ? 0
        : best(
            r.server_names.map((name) => (name === f.serverName ? 1000 : name.startsWith("*.") && f.serverName.endsWith(name.slice(1)) ? name.length : none)),
          ),
    (r) => (r.transport_protocol === undefined ? 0 : r.transport_protocol === f.transportProtocol ? 1 : none),
    (r) =>
      r.application_protocols === undefined
        ? 0
        : best(
            r.application_protocols.map((name) =>
              f.applicationProtocols.includes(name) ? f.applicationProtocols.length - f.applicationProtocols.indexOf(name) : none,
            ),
          ),
    (r) => (r.source_type === undefined || r.source_type === "ANY" ? 0 : (r.source_type === "EXTERNAL") !== local ? 1 : none),
    (r) =>
      r.source_prefix_ranges === undefined
        ? 0
        : best(r.source_prefix_ranges.map((range) => (contains(range, ip(f.remoteAddress)) < 0 ? none : 1 + range.prefix_len))),
    (r) => (r.source_ports === undefined ? 0 : r.source_ports.includes(port(f.remoteAddress)) ? 1 : none),
  ];
  let left = rules.map((_, i) => i);
  for (const step of steps) {
    const scores = left.map((i) => step(rules[i]));
    const top = best(scores);
    left = top === none ? [] : left.filter((_, i) => scores[i] === top);
  }
  return left[0];
}

const some = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(value, { nil: undefined, freq: 2 });
const several = <T>(values: readonly T[]): fc.Arbitrary<T[] | undefined> => some(fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 3 }));
const ranges = some(
  fc.uniqueArray(
    fc.constantFrom(
      { address_prefix: "10.0.0.0", prefix_len: 8 },
      { address_prefix: "10.1.0.0", prefix_len: 16 },
      { address_prefix: "10.1.2.3", prefix_len: 32 },
      { address_prefix: "127.0.0.0", prefix_len: 8 },
      { address_prefix: "0.0.0.0", prefix_len: 0 },
    ),
    { minLength: 1, maxLength: 2 },
  ),
);
const names = ["a.test", "b.a.test", "*.test", "*.a.test", "*.b.a.test"] as const;
const rule: fc.Arbitrary<Rule> = fc.record({
  destination_port: some(fc.constantFrom(80, 443)),
  prefix_ranges: ranges,
  server_names: several(names),
  transport_protocol: some(fc.constantFrom("tls", "raw_buffer")),
  application_protocols: several(["h2", "http/1.1", "x"]),
  source_type: some(fc.constantFrom("ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL")),
  source_prefix_ranges: ranges,
  source_ports: several([1000, 2000]),
});
const ips = fc.constantFrom("10.1.2.3", "10.1.9.9", "10.9.9.9", "127.0.0.1", "192.0.2.1");
const connection: fc.Arbitrary<MatchFacts> = fc
  .record({
    from: fc.tuple(ips, fc.constantFrom(1000, 2000, 3000)),
    to: fc.tuple(ips, fc.constantFrom(80, 443, 8080)),
    serverName: fc.constantFrom("", "a.test", "b.a.test", "c.b.a.test", "x.test", "other"),
    transportProtocol: fc.constantFrom("tls", "raw_buffer"),
    applicationProtocols: fc.uniqueArray(fc.constantFrom("h2", "http/1.1", "x", "y"), { maxLength: 3 }),
  })
  .map(({ from, to, ...rest }) => facts({ ...rest, from: from.join(":"), to: to.join(":") }));

test("property: the tree chooses as a plain reading of the documentation does", () => {
  fc.assert(
    fc.property(fc.array(rule, { minLength: 1, maxLength: 8 }), fc.array(connection, { minLength: 1, maxLength: 10 }), (candidates, connections) => {
      // Only lists that Envoy accepts: no two chains for the same combination.
      const rules: Rule[] = [];
      const compiled: Criteria[] = [];
      const taken = new Set<string>();
      for (const candidate of candidates) {
        const one = criteria(JSON.parse(JSON.stringify(candidate)));
        const combinations = criteriaCombinations(one);
        if (combinations.some((key) => taken.has(key))) continue;
        for (const key of combinations) taken.add(key);
        rules.push(candidate);
        compiled.push(one);
      }
      const chains = new FilterChainIndex(
        compiled.map((one, i) => ({ criteria: one, chain: i })),
        undefined,
      );
      for (const f of connections) assert.equal(chains.find(f), plainChoice(rules, f));
    }),
    { numRuns: 400 },
  );
});
