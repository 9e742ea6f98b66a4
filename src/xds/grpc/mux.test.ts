import assert from "node:assert/strict";
import { after, test } from "node:test";
import { encodeMessage } from "../../config/binary-encode.ts";
import { emptyMessage, loadMessage } from "../../config/load.ts";
import type { DeltaDiscoveryRequest, DiscoveryRequest } from "../../config/schema/types/envoy.service.discovery.v3.d.ts";
import { StatsStore } from "../../stats/stats.ts";
import type { ResourceUpdate, Subscription } from "../subscription.ts";
import { delta } from "./delta.ts";
import { GrpcMux, type Protocol } from "./mux.ts";
import { stateOfTheWorld } from "./sotw.ts";
import type { StreamEvents } from "./transport.ts";

const clusterType = "envoy.config.cluster.v3.Cluster";
const endpointType = "envoy.config.endpoint.v3.ClusterLoadAssignment";
const muxes: GrpcMux[] = [];
after(() => {
  for (const mux of muxes) mux.close();
});

/** A management server by hand: what it was sent, and what it says. */
class Plane {
  readonly mux: GrpcMux;
  readonly stats = new StatsStore();
  readonly texts = new Map<string, string>();
  sent: Uint8Array[] = [];
  streams = 0;
  isDown = false;
  #events: StreamEvents | undefined;

  constructor(protocol: Protocol) {
    this.mux = new GrpcMux({
      protocol,
      open: (events) => {
        if (this.isDown) return undefined;
        this.streams++;
        this.#events = events;
        return { send: (message) => void this.sent.push(message), close: () => {} };
      },
      scope: this.stats.scope("control_plane."),
      unknownFields: { policy: "warn", counted: () => {} },
      node: () => ({ ...emptyMessage("envoy.config.core.v3.Node"), id: "me" }),
      setText: (name, value) => void this.texts.set(name, value),
      nodeOnFirstMessageOnly: true,
      backoff: { baseMs: 1, maxMs: 1 },
      random: () => 0,
    });
    muxes.push(this.mux);
  }

  subscribe(typeName: string, names: readonly string[] | undefined, accept: (update: ResourceUpdate) => void | Promise<void>): Subscription {
    const subscription = this.mux.subscribe({ typeName, names, scope: this.stats.scope(`${typeName}.`), accept }, 0);
    subscription.start();
    return subscription;
  }

  respond(version: string, nonce: string, typeName: string, ...resources: object[]): void {
    const message = {
      ...emptyMessage("envoy.service.discovery.v3.DiscoveryResponse"),
      versionInfo: version,
      nonce,
      typeUrl: `type.googleapis.com/${typeName}`,
    };
    this.say({ ...message, resources, controlPlane: { $typeName: "envoy.config.core.v3.ControlPlane", identifier: "plane" } } as never);
  }
  say(message: { $typeName: string }): void {
    this.#events?.onMessage(encodeMessage(message));
  }
  drop(): void {
    this.#events?.onClose(14, "gone");
  }
  /** What was sent since the last call. */
  async heard<T>(typeName: "DiscoveryRequest" | "DeltaDiscoveryRequest"): Promise<T[]> {
    // Requests of a turn leave at its end, and acknowledgements when the subscriber is done.
    await new Promise(setImmediate);
    const sent = this.sent.splice(0);
    return sent.map((bytes) => loadMessage({ kind: "bytes", name: "request", bytes }, `envoy.service.discovery.v3.${typeName}`).message as unknown as T);
  }
}

const cluster = (name: string): object => ({ ...emptyMessage("envoy.config.cluster.v3.Cluster"), name });
const assignment = (name: string): object => ({ ...emptyMessage("envoy.config.endpoint.v3.ClusterLoadAssignment"), clusterName: name });
const short = ({ typeUrl, versionInfo, responseNonce, resourceNames, errorDetail }: DiscoveryRequest): unknown[] => [
  typeUrl.slice(typeUrl.lastIndexOf(".") + 1),
  versionInfo,
  responseNonce,
  resourceNames,
  ...(errorDetail === undefined ? [] : [(errorDetail as unknown as { message: string }).message]),
];

test("state of the world: asks type by type, acknowledges what is taken, refuses what is not", async () => {
  const plane = new Plane(stateOfTheWorld);
  const taken: string[] = [];
  plane.subscribe(clusterType, undefined, ({ resources }) => {
    if (resources.some(({ name }) => name === "bad")) throw new Error("no bad ones");
    taken.push(...resources.map(({ name }) => name));
  });
  const first = await plane.heard<DiscoveryRequest>("DiscoveryRequest");
  assert.deepEqual(first.map(short), [["Cluster", "", "", []]]);
  assert.equal(first[0].node?.id, "me");
  plane.respond("1", "a", clusterType, cluster("one"), cluster("two"));
  const [ack] = await plane.heard<DiscoveryRequest>("DiscoveryRequest");
  assert.deepEqual(short(ack), ["Cluster", "1", "a", []]);
  assert.equal(ack.node, undefined);
  assert.deepEqual(taken, ["one", "two"]);
  plane.respond("2", "b", clusterType, cluster("bad"));
  assert.deepEqual((await plane.heard<DiscoveryRequest>("DiscoveryRequest")).map(short), [["Cluster", "1", "b", [], "no bad ones"]]);
  assert.equal(plane.texts.get("control_plane.identifier"), "plane");
});

test("what an update of clusters needs is asked for once, when the update is through", async () => {
  const plane = new Plane(stateOfTheWorld);
  const members: string[] = [];
  plane.subscribe(clusterType, undefined, async ({ resources }) => {
    for (const { name } of resources) {
      await null;
      plane.subscribe(endpointType, [name], (update) => void members.push(...update.resources.map((resource) => resource.name)));
    }
  });
  await plane.heard("DiscoveryRequest");
  plane.respond("1", "a", clusterType, cluster("one"), cluster("two"));
  assert.deepEqual((await plane.heard<DiscoveryRequest>("DiscoveryRequest")).map(short), [
    ["Cluster", "1", "a", []],
    ["ClusterLoadAssignment", "", "", ["one", "two"]],
  ]);
  // Only what somebody wants reaches him; what nobody wants is no reason to refuse.
  plane.respond("7", "b", endpointType, assignment("two"), assignment("three"));
  assert.deepEqual((await plane.heard<DiscoveryRequest>("DiscoveryRequest")).map(short), [["ClusterLoadAssignment", "7", "b", ["one", "two"]]]);
  assert.deepEqual(members, ["two"]);
});

test("a new stream is told the versions, and who asks", async () => {
  const plane = new Plane(stateOfTheWorld);
  plane.subscribe(clusterType, undefined, () => {});
  await plane.heard("DiscoveryRequest");
  plane.respond("1", "a", clusterType);
  await plane.heard("DiscoveryRequest");
  assert.equal(plane.stats.gauge("control_plane.connected_state").value, 1);
  plane.isDown = true;
  plane.drop();
  assert.equal(plane.stats.gauge("control_plane.connected_state").value, 0);
  plane.isDown = false;
  while (plane.streams < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  const [again] = await plane.heard<DiscoveryRequest>("DiscoveryRequest");
  assert.deepEqual(short(again), ["Cluster", "1", "", []]);
  assert.equal(again.node?.id, "me");
  assert.equal(plane.stats.counter(`${clusterType}.update_failure`).value, 1);
});

test("bytes that are no response, and resources of another type, break nothing", async () => {
  const plane = new Plane(stateOfTheWorld);
  let updates = 0;
  plane.subscribe(clusterType, undefined, () => void updates++);
  await plane.heard("DiscoveryRequest");
  plane.say({ $typeName: "google.protobuf.Any", typeUrl: "x", value: Buffer.from([255, 255]) } as never);
  plane.respond("1", "a", "envoy.no.such.Type");
  plane.respond("1", "b", clusterType, assignment("x"));
  const heard = await plane.heard<DiscoveryRequest>("DiscoveryRequest");
  assert.deepEqual(heard.map(short), [["Cluster", "", "b", [], `Unable to unpack as ${clusterType}: ${endpointType}`]]);
  assert.equal(updates, 0);
});

test("delta: names are added and taken away, versions go along to a new stream", async () => {
  const plane = new Plane(delta);
  const gone: string[] = [];
  const one = plane.subscribe(endpointType, ["one"], ({ removed }) => void gone.push(...(removed ?? [])));
  const short = ({
    resourceNamesSubscribe,
    resourceNamesUnsubscribe,
    initialResourceVersions,
    responseNonce,
    errorDetail,
  }: DeltaDiscoveryRequest): unknown[] => [
    resourceNamesSubscribe,
    resourceNamesUnsubscribe,
    { ...initialResourceVersions },
    responseNonce,
    errorDetail !== undefined,
  ];
  const heard = async (): Promise<unknown[][]> => (await plane.heard<DeltaDiscoveryRequest>("DeltaDiscoveryRequest")).map(short);
  assert.deepEqual(await heard(), [[["one"], [], {}, "", false]]);
  const respond = (nonce: string, removedResources: string[], ...names: string[]): void => {
    const resources = names.map((name) => ({
      ...emptyMessage("envoy.service.discovery.v3.Resource"),
      name,
      version: `v-${nonce}`,
      resource: assignment(name),
    }));
    const message = emptyMessage("envoy.service.discovery.v3.DeltaDiscoveryResponse");
    plane.say({ ...message, nonce, removedResources, resources, typeUrl: `type.googleapis.com/${endpointType}` } as never);
  };
  respond("a", [], "one");
  assert.deepEqual(await heard(), [[[], [], {}, "a", false]]);
  plane.subscribe(endpointType, ["two"], () => {
    throw new Error("never good enough");
  });
  assert.deepEqual(await heard(), [[["two"], [], {}, "", false]]);
  respond("b", [], "two");
  assert.deepEqual(await heard(), [[[], [], {}, "b", true]]);
  plane.drop();
  while (plane.streams < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(await heard(), [[["one", "two"], [], { one: "v-a" }, "", false]]);
  respond("c", ["one"]);
  assert.deepEqual(await heard(), [[[], [], {}, "c", false]]);
  assert.deepEqual(gone, ["one"]);
  one.close();
  assert.deepEqual(await heard(), [[[], ["one"], {}, "", false]]);
});
