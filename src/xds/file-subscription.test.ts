import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { TimerWheel } from "../net/timer-wheel.ts";
import { RuntimeSnapshot } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { testContext } from "../testing/compile-context.ts";
import type { HostUpdate } from "../upstream/hosts.ts";
import { MainClusters } from "../upstream/main-clusters.ts";
import { compiled } from "../upstream/testing.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-eds-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const type = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const assigned = (port: number, more: object = {}): object => ({
  "@type": type,
  cluster_name: "service",
  endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } }] }],
  ...more,
});

/** An EDS cluster that reads a file, on the main thread. */
class Bed {
  readonly stats = new StatsStore();
  readonly texts = new Map<string, string>();
  readonly path: string;
  readonly clusters: MainClusters;
  #changed: (() => void) | undefined;
  last: HostUpdate | undefined;

  constructor(name: string, first: string) {
    this.path = join(scratch, name);
    this.write(first);
    this.clusters = new MainClusters({
      stats: this.stats,
      timers: new TimerWheel(),
      runtime: { snapshot: new RuntimeSnapshot() },
      threads: 1,
      onUpdate: (update) => {
        this.last = update;
        this.#changed?.();
      },
      setText: (key, value) => {
        this.texts.set(key, value);
        this.#changed?.();
      },
    });
    const source = { resource_api_version: "V3", path_config_source: { path: this.path } };
    this.clusters.add(compiled({ type: "EDS", eds_cluster_config: { eds_config: source } }, Object.assign(testContext(), { stats: this.stats })));
  }

  write(text: string): void {
    writeFileSync(`${this.path}.new`, text);
    renameSync(`${this.path}.new`, this.path);
  }
  respond(version: string, ...resources: object[]): void {
    this.write(JSON.stringify({ version_info: version, resources }));
  }
  count(name: string): number {
    return this.stats.counter(`cluster.service.${name}`).value;
  }
  get members(): string[] {
    return (this.last?.hosts ?? []).map(({ address }) => address.text);
  }
  async until(is: () => boolean): Promise<void> {
    while (!is()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        setTimeout(resolve, 20); // a refusal tells nobody but the counters
      });
    }
  }
}

test("members follow the file; what is refused or cannot be read leaves them", async () => {
  const bed = new Bed("eds.json", JSON.stringify({ version_info: "1", resources: [assigned(1)] }));
  await bed.clusters.initialized;
  assert.deepEqual(bed.members, ["127.0.0.1:1"]);
  assert.equal(bed.texts.get("cluster.service.version_text"), "1");
  bed.respond("2", assigned(2, { policy: { overprovisioning_factor: 200 } }));
  await bed.until(() => bed.texts.get("cluster.service.version_text") === "2");
  assert.deepEqual([bed.members, bed.last?.overprovisioningPercent], [["127.0.0.1:2"], 200]);

  bed.write("{");
  await bed.until(() => bed.count("update_failure") === 1);
  let rejected = 0;
  for (const resources of [
    [assigned(3, { cluster_name: "other" })],
    [assigned(3), assigned(4)],
    [assigned(3, { policy: { overprovisioning_factor: 0 } })],
    [assigned(3, { endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "a.name", port_value: 1 } } } }] }] })],
    [{ "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", name: "service" }],
  ]) {
    bed.respond("bad", ...resources);
    rejected++;
    await bed.until(() => bed.count("update_rejected") === rejected);
  }
  assert.deepEqual(bed.members, ["127.0.0.1:2"]);
  assert.equal(bed.texts.get("cluster.service.version_text"), "2");

  bed.respond("3");
  await bed.until(() => bed.count("update_empty") === 1);
  assert.deepEqual(bed.members, ["127.0.0.1:2"], "no assignment says nothing about members");
  bed.respond("4", assigned(5, { a_field_of_the_future: 1 }));
  await bed.until(() => bed.members.includes("127.0.0.1:5"));
  assert.deepEqual([bed.count("update_attempt"), bed.count("update_success"), bed.count("membership_change")], [10, 4, 3]);
  bed.clusters.close();
});

test("a file that is no configuration at first: the cluster begins without members and gets them later", async () => {
  const bed = new Bed("late.yaml", "");
  await bed.clusters.initialized;
  assert.equal(bed.last, undefined);
  bed.write(`version_info: "1"\nresources:\n- "@type": ${type}\n  cluster_name: service\n  endpoints: []\n`);
  await bed.until(() => bed.count("update_success") === 1);
  bed.clusters.close();
});

test("an EDS cluster needs a file that is there", () => {
  const context = testContext();
  const source = { resource_api_version: "V3", path_config_source: { path: join(scratch, "none.yaml") } };
  compiled({ type: "EDS", eds_cluster_config: { eds_config: source } }, context);
  assert.match(context.findings[0], /paths must refer to an existing path in the system: '.*none.yaml' does not exist/);
});
