import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "../config/message.ts";
import { testContext } from "../testing/compile-context.ts";
import { anyHost, assignment, at, compiled, TestCluster } from "./testing.ts";

const host = (port: number, lb: object): object => at(port, { metadata: { filter_metadata: { "envoy.lb": lb } } });
const endpoints = [host(1, { version: "v1", stage: "prod" }), host(2, { version: "v2", stage: "prod" }), host(3, { version: "v2", stage: "dev" }), at(4)];

class Bed {
  readonly cluster: TestCluster;
  constructor(config: object, members: readonly object[] = endpoints) {
    this.cluster = new TestCluster({ load_assignment: assignment(...members), lb_subset_config: config });
  }
  /** Ports that requests with this metadata reach, in order; [] where there is no host. */
  ports(metadataMatch: JsonObject | undefined): number[] {
    const found = new Set<number>();
    for (let i = 0; i < 12; i++) {
      const address = this.cluster.core.httpPool("default", undefined, { ...anyHost, metadataMatch })?.host.address;
      if (address?.kind === "ip") found.add(address.port);
    }
    return [...found].sort();
  }
  gauge(name: string): number {
    return this.cluster.stats.gauge(`cluster.service.${name}`).value;
  }
}

const selectors = [{ keys: ["version"] }, { keys: ["version", "stage"] }];

test("a route reaches the hosts that have what it asks for, all of it and no more keys", () => {
  const bed = new Bed({ subset_selectors: selectors });
  assert.deepEqual(bed.ports({ version: "v2" }), [2, 3]);
  assert.deepEqual(bed.ports({ stage: "dev", version: "v2" }), [3]);
  assert.equal(bed.cluster.stat("lb_subsets_selected"), 24);
  const unmatched: (JsonObject | undefined)[] = [{ version: "v3" }, { version: "v1", stage: "dev" }, { stage: "prod" }, undefined];
  for (const none of unmatched) assert.deepEqual(bed.ports(none), []);
  assert.deepEqual([bed.gauge("lb_subsets_active"), bed.cluster.stat("lb_subsets_created")], [5, 5]);
});

test("subsets come and go with their hosts", () => {
  const bed = new Bed({ subset_selectors: [{ keys: ["version"] }] });
  const [first, second] = bed.cluster.settings.staticHosts;
  const wanted = { version: "v2" };
  assert.deepEqual(bed.ports(wanted), [2, 3]);
  bed.cluster.update([first]);
  assert.deepEqual(bed.ports(wanted), []);
  assert.deepEqual([bed.gauge("lb_subsets_active"), bed.cluster.stat("lb_subsets_removed")], [1, 1]);
  bed.cluster.update([first, second]);
  assert.deepEqual(bed.ports(wanted), [2]);
});

test("fallbacks: any host, the default subset, nobody; a selector's own first", () => {
  const any = new Bed({ fallback_policy: "ANY_ENDPOINT", subset_selectors: selectors });
  assert.deepEqual(any.ports({ version: "v9" }), [1, 2, 3, 4]);
  assert.deepEqual(any.ports(undefined), [1, 2, 3, 4]);
  assert.equal(any.cluster.stat("lb_subsets_fallback"), 24);
  const standard = new Bed({ fallback_policy: "DEFAULT_SUBSET", default_subset: { stage: "prod" }, subset_selectors: selectors });
  assert.deepEqual(standard.ports({ version: "v9" }), [1, 2]);
  const own = new Bed({
    fallback_policy: "ANY_ENDPOINT",
    subset_selectors: [
      { keys: ["version"], fallback_policy: "NO_FALLBACK" },
      { keys: ["version", "stage"], fallback_policy: "KEYS_SUBSET", fallback_keys_subset: ["version"] },
    ],
  });
  assert.deepEqual(own.ports({ version: "v9" }), []);
  assert.deepEqual(own.ports({ version: "v2", stage: "test" }), [2, 3]);
  assert.deepEqual(own.ports({ version: "v9", stage: "test" }), []);
  assert.deepEqual(own.ports({ stage: "prod" }), [1, 2, 3, 4]);
});

test("panic_mode_any takes any host rather than none", () => {
  const bed = new Bed({ fallback_policy: "DEFAULT_SUBSET", default_subset: { stage: "none" }, panic_mode_any: true, subset_selectors: selectors });
  assert.deepEqual(bed.ports({ version: "v9" }), [1, 2, 3, 4]);
  assert.equal(bed.cluster.stat("lb_subsets_fallback_panic"), 12);
});

test("single_host_per_subset and list_as_any", () => {
  assert.deepEqual(new Bed({ subset_selectors: [{ keys: ["version"], single_host_per_subset: true }] }).ports({ version: "v2" }), [2]);
  const lists = [host(1, { version: ["v1", "v2"] }), host(2, { version: "v2" })];
  const bed = new Bed({ subset_selectors: [{ keys: ["version"] }], list_as_any: true }, lists);
  assert.deepEqual([bed.ports({ version: "v1" }), bed.ports({ version: "v2" })], [[1], [1, 2]]);
  assert.deepEqual(new Bed({ subset_selectors: [{ keys: ["version"] }] }, lists).ports({ version: ["v1", "v2"] }), [1]);
});

test("fallback keys are fewer than the selector's own", () => {
  const findings = (keys: string[]): string[] => {
    const context = testContext();
    const selector = { keys: ["a", "b"], fallback_policy: "KEYS_SUBSET", fallback_keys_subset: keys };
    compiled({ load_assignment: assignment(80), lb_subset_config: { subset_selectors: [selector] } }, context);
    return context.findings;
  };
  assert.deepEqual(findings(["a"]), []);
  for (const wrong of [[], ["c"], ["a", "b"]]) assert.match(findings(wrong)[0], /fallback_keys_subset/);
});
