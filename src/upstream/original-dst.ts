/**
 * ORIGINAL_DST: a request goes to the address that its client meant, as netfilter redirected it, or as a header or dynamic metadata names it.
 * A host comes to be when a worker first needs it; the main thread tells the others, and drops it when none has used it for an interval.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/service_discovery#original-destination
 */
import { durationMs, type JsonValue } from "../config/message.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { ipAddress, parseAddressText } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import type { Counter } from "../stats/stats.ts";
import type { HostData } from "./hosts.ts";
import type { OriginalDstSettings } from "./settings.ts";
import type { LoadBalancerContext } from "./upstream.ts";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster": ["original_dst_lb_config"],
  "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig": "*",
  "envoy.type.metadata.v3.MetadataKey": "*",
  "envoy.type.metadata.v3.MetadataKey.PathSegment": "*",
};

const defaultHeader = "x-envoy-original-dst-host";
/** Hosts at a time; a header that clients choose must not fill the memory. */
export const maxOriginalDstHosts = 65_536;
/** The main thread has told of a new host by then, or does not want it. */
const unconfirmedMs = 5000;

export function compileOriginalDst(message: Cluster, context: CompileContext): OriginalDstSettings {
  const given = message.lbConfig.case === "originalDstLbConfig" ? message.lbConfig.value : undefined;
  if (message.lbPolicy !== 6 && message.loadBalancingPolicy === undefined)
    context.report(message, "lb_policy", {
      code: "OR3037",
      text: `cluster: LB policy ${policyNames[message.lbPolicy] ?? message.lbPolicy} is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'`,
      hint: "set lb_policy: CLUSTER_PROVIDED",
    });
  if (message.loadAssignment !== undefined)
    context.report(message, "load_assignment", {
      code: "OR3031",
      text: "ORIGINAL_DST clusters must have no load assignment configured",
      hint: "remove load_assignment",
    });
  if (given !== undefined && !given.useHttpHeader && given.httpHeaderName !== "")
    context.report(given, "http_header_name", {
      code: "OR3031",
      text: `ORIGINAL_DST cluster: invalid config http_header_name=${given.httpHeaderName} and use_http_header is false. Set use_http_header to true if http_header_name is desired.`,
      hint: "add use_http_header: true",
    });
  const key = given?.metadataKey;
  return {
    header: given?.useHttpHeader === true ? (given.httpHeaderName === "" ? defaultHeader : given.httpHeaderName.toLowerCase()) : undefined,
    metadata: key === undefined ? undefined : { namespace: key.key, path: key.path.map(({ segment }) => (segment.case === "key" ? segment.value : "")) },
    portOverride: given?.upstreamPortOverride,
    cleanupMs: durationMs(message.cleanupInterval, 5000),
  };
}

const policyNames: Readonly<Record<number, string>> = { 0: "ROUND_ROBIN", 1: "LEAST_REQUEST", 2: "RING_HASH", 3: "RANDOM", 5: "MAGLEV" };

/** Where the request is to go; undefined: nothing tells. What is malformed counts as invalid. */
export function originalDestination(settings: OriginalDstSettings, context: LoadBalancerContext, invalid: Counter): Address | undefined {
  const address = named(settings, context, invalid) ?? restored(context);
  if (address?.kind !== "ip" || settings.portOverride === undefined) return address;
  return ipAddress(address.ip, settings.portOverride);
}

function named(settings: OriginalDstSettings, context: LoadBalancerContext, invalid: Counter): Address | undefined {
  if (settings.header !== undefined) {
    const text = context.requestHeaders?.get(settings.header);
    if (text !== undefined) {
      // The first of several values, as with Envoy.
      const address = parse(text.split(",")[0]);
      if (address !== undefined) return address;
      invalid.inc();
    }
  }
  if (settings.metadata === undefined) return undefined;
  let value: JsonValue | undefined = context.streamInfo?.dynamicMetadata[settings.metadata.namespace];
  for (const part of settings.metadata.path) {
    value = typeof value === "object" && value !== null && !Array.isArray(value) && Object.hasOwn(value, part) ? (value[part] as JsonValue) : undefined;
  }
  if (typeof value !== "string") return undefined;
  const address = parse(value);
  if (address === undefined) invalid.inc();
  return address;
}

function parse(text: string): Address | undefined {
  const address = parseAddressText(text.trim());
  return address?.kind === "ip" && address.port > 0 ? address : undefined;
}

function restored(context: LoadBalancerContext): Address | undefined {
  const connection = context.downstreamConnection;
  return connection?.isLocalAddressRestored === true && connection.localAddress.kind === "ip" ? connection.localAddress : undefined;
}

/** The hosts of one worker: those that all know, and those it has made itself and told the main thread of. */
export class OriginalDestinations<H extends { readonly address: Address }> {
  readonly #settings: OriginalDstSettings;
  readonly #invalid: Counter;
  readonly #make: (address: Address) => H;
  readonly #known = new Map<string, H>();
  /** Made here and not in an update yet, by address, with the moment. */
  readonly #fresh = new Map<string, { readonly host: H; readonly atMs: number }>();
  readonly #used = new Set<Address>();

  constructor(settings: OriginalDstSettings, invalid: Counter, make: (address: Address) => H) {
    this.#settings = settings;
    this.#invalid = invalid;
    this.#make = make;
  }

  /** `isNew`: the main thread is to be told. */
  choose(context: LoadBalancerContext, nowMs: number): { readonly host: H; readonly isNew: boolean } | undefined {
    const address = originalDestination(this.#settings, context, this.#invalid);
    if (address === undefined) return undefined;
    const known = this.#known.get(address.text) ?? this.#fresh.get(address.text)?.host;
    if (known !== undefined) {
      this.#used.add(known.address);
      return { host: known, isNew: false };
    }
    if (this.#known.size + this.#fresh.size >= maxOriginalDstHosts) return undefined;
    const host = this.#make(address);
    this.#fresh.set(address.text, { host, atMs: nowMs });
    return { host, isNew: true };
  }

  /** All hosts after an update: those of it, and those that it cannot know yet. */
  update(hosts: readonly H[], nowMs: number): readonly H[] {
    this.#known.clear();
    for (const host of hosts) {
      this.#known.set(host.address.text, host);
      this.#fresh.delete(host.address.text);
    }
    for (const [text, { atMs }] of this.#fresh) if (nowMs - atMs > unconfirmedMs) this.#fresh.delete(text);
    return [...hosts, ...[...this.#fresh.values()].map(({ host }) => host)];
  }

  /** The host made here for an address that an update now has: it stays the same one. */
  fresh(address: string): H | undefined {
    return this.#fresh.get(address)?.host;
  }

  /** Addresses used since the last time, and those of hosts that are `busy`. */
  takeUsed(busy: (host: H) => boolean): Address[] {
    for (const host of this.#known.values()) if (busy(host)) this.#used.add(host.address);
    const used = [...this.#used];
    this.#used.clear();
    return used;
  }
}

/** A host of the cluster, the same on every thread. */
export function originalDstHost(cluster: string, address: Address): HostData {
  return {
    address,
    hostname: `${cluster}${address.text}`,
    healthCheckHostname: "",
    weight: 1,
    priority: 0,
    localityWeight: 0,
    locality: { region: "", zone: "", subZone: "" },
    metadata: {},
    health: "healthy",
  };
}
