/** Attributes of stream, connection and configuration, by Envoy's paths: as WebAssembly modules read them, and as JSON. https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes */
import type { JsonObject, JsonValue } from "../config/message.ts";
import { certificateField, subjectAltNames } from "../formatter/operators/certificates.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { FilterStateObject, StreamInfo } from "../http/stream-info.ts";
import type { Address, TlsInfo } from "../net/connection.ts";
import { encodePairs } from "./wasm/abi.ts";

/** What modules are told of themselves. */
export interface PluginFacts {
  readonly name: string;
  readonly rootId: string;
  readonly vmId: string;
  readonly node: { readonly id: string; readonly cluster: string; readonly zone: string };
  readonly direction: number;
}

export interface PropertySource {
  readonly plugin?: PluginFacts | undefined;
  readonly info?: StreamInfo | undefined;
  readonly requestHeaders?: RequestHeaders | undefined;
  readonly responseHeaders?: ResponseHeaders | undefined;
  readonly responseTrailers?: Trailers | undefined;
}

/** A moment or a span of time, nanoseconds. */
class Nanoseconds {
  readonly value: bigint;
  constructor(ms: number) {
    this.value = BigInt(Math.round(ms * 1000)) * 1000n;
  }
}
/** A whole number, which modules read as eight bytes. */
class Whole {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}
/** Bytes as latin1 text. */
class Bytes {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Value =
  | string
  | number
  | boolean
  | Bytes
  | Whole
  | Nanoseconds
  | Map<string, Value>
  | JsonObject
  | readonly unknown[]
  | ((key: string) => Value | undefined)
  | undefined
  | null;

const whole = (value: number | undefined): Value => (value === undefined ? undefined : new Whole(value));
const bytes = (text: string | undefined): Value => (text === undefined ? undefined : new Bytes(text));

/** The value at a path as bytes; undefined: there is none. */
export function readProperty(source: PropertySource, path: readonly string[]): Buffer | undefined {
  let value: Value = top(source, path[0]);
  for (let i = 1; i < path.length && value !== undefined && value !== null; i++) value = step(value, path[i]);
  if (value === undefined || value === null || typeof value === "function") return undefined;
  return serialize(value);
}

/** Those of the paths ("request.path") that there are, as google.protobuf.Struct holds them. */
export function attributeJson(source: PropertySource, paths: readonly string[]): JsonObject {
  const found: JsonObject = {};
  for (const path of paths) {
    const parts = path.split(".");
    let value: Value = top(source, parts[0]);
    for (let i = 1; i < parts.length && value !== undefined && value !== null; i++) value = step(value, parts[i]);
    const json = toJson(value, path);
    if (json !== undefined) found[path] = json;
  }
  return found;
}

function toJson(value: Value, path: string): JsonValue | undefined {
  if (value === undefined || value === null || typeof value === "function") return undefined;
  if (value instanceof Bytes) return Buffer.from(value.text, "latin1").toString("utf8");
  if (value instanceof Whole) return value.value;
  if (value instanceof Nanoseconds) {
    if (path.endsWith(".time"))
      return new Date(Number(value.value / 1_000_000n)).toISOString().replace(/Z$/, `${String((value.value / 1000n) % 1000n).padStart(3, "0")}+00:00`);
    return `${Number(value.value) / 1e9}s`;
  }
  if (value instanceof Map) {
    const object: JsonObject = {};
    for (const [key, item] of value) {
      const json = toJson(item, "");
      if (json !== undefined) object[key] = json;
    }
    return object;
  }
  return value as JsonValue;
}

function step(value: Value, key: string): Value {
  if (typeof value === "function") return value(key);
  if (value instanceof Map) return value.get(key);
  if (Array.isArray(value)) return value[Number(key)] as Value;
  if (typeof value === "object" && value !== null && !(value instanceof Bytes || value instanceof Whole || value instanceof Nanoseconds))
    return Object.hasOwn(value, key) ? ((value as JsonObject)[key] as Value) : undefined;
  return undefined;
}

function serialize(value: NonNullable<Value>): Buffer | undefined {
  if (typeof value === "string") return Buffer.from(value);
  if (value instanceof Bytes) return Buffer.from(value.text, "latin1");
  const out = Buffer.alloc(8);
  if (typeof value === "boolean") return Buffer.from([value ? 1 : 0]);
  if (typeof value === "number") {
    out.writeDoubleLE(value);
    return out;
  }
  if (value instanceof Whole) {
    out.writeBigInt64LE(BigInt(Math.trunc(value.value)));
    return out;
  }
  if (value instanceof Nanoseconds) {
    out.writeBigInt64LE(BigInt.asIntN(64, value.value));
    return out;
  }
  if (typeof value === "function") return undefined;
  const pairs: string[] = [];
  const add = (key: string, item: Value): void => {
    if (item === undefined || item === null || typeof item === "function") return;
    const text = serialize(item)?.toString("latin1");
    if (text !== undefined) pairs.push(Buffer.from(key).toString("latin1"), text);
  };
  if (value instanceof Map) for (const [key, item] of value) add(key, item);
  else if (Array.isArray(value)) {
    for (const item of value as Value[]) {
      if (item === undefined || item === null) continue;
      pairs.push(serialize(item)?.toString("latin1") ?? "", "");
    }
  } else for (const [key, item] of Object.entries(value as JsonObject)) add(key, item as Value);
  return encodePairs(pairs);
}

function top(source: PropertySource, name: string): Value {
  const { plugin, info } = source;
  switch (name) {
    case "plugin_name":
      return plugin?.name;
    case "plugin_root_id":
      return plugin?.rootId;
    case "plugin_vm_id":
      return plugin?.vmId;
    case "node":
      if (plugin === undefined) return undefined;
      return new Map<string, Value>([
        ["id", plugin.node.id],
        ["cluster", plugin.node.cluster],
        ["locality", new Map<string, Value>([["zone", plugin.node.zone]])],
      ]);
    case "listener_direction":
      return whole(plugin?.direction);
    case "listener_metadata":
      return metadata((info?.listenerMetadata as Record<string, JsonObject> | undefined) ?? {});
  }
  if (info === undefined) return undefined;
  switch (name) {
    case "request":
      return (key) => request(key, source, info);
    case "response":
      return (key) => response(key, source, info);
    case "connection":
      return (key) => connection(key, info);
    case "source":
      return (key) => address(key, info.downstreamRemoteAddress);
    case "destination":
      return (key) => address(key, info.downstreamLocalAddress);
    case "upstream":
      return (key) => upstream(key, info);
    case "metadata":
      return metadata(info.hasDynamicMetadata ? info.dynamicMetadata : {});
    case "filter_state":
      return (key) => stateValue(info.getFilterState(key));
    case "upstream_filter_state":
      return (key) => stateValue(info.upstream?.filterState?.get(key));
    case "xds":
      return (key) => xds(key, info, source);
    case "connection_id":
      return whole(info.connectionId);
    case "cluster_name":
    case "cluster_metadata":
    case "route_name":
    case "route_metadata":
    case "upstream_host_metadata":
      return xds(name, info, source);
    default:
      // What modules have set with proxy_set_property.
      return stateValue(info.getFilterState(`wasm.${name}`));
  }
}

function stateValue(state: FilterStateObject | undefined): Value {
  const text = state?.serializeAsString();
  return text === undefined ? undefined : text;
}

function metadata(all: Record<string, JsonObject>): Value {
  return new Map<string, Value>([["filter_metadata", all as unknown as JsonObject]]);
}

function headerMap(
  headers: { readonly list: readonly string[]; get(name: string): string | undefined } | undefined,
  extra: readonly (readonly [string, string | undefined])[],
): Value {
  if (headers === undefined) return undefined;
  const map = new Map<string, Value>();
  for (const [name, value] of extra) if (value !== undefined) map.set(name, new Bytes(value));
  const { list } = headers;
  for (let i = 0; i < list.length; i += 2) {
    const before = map.get(list[i]);
    map.set(list[i], new Bytes(before instanceof Bytes ? `${before.text},${list[i + 1]}` : list[i + 1]));
  }
  return map;
}

function request(key: string, source: PropertySource, info: StreamInfo): Value {
  const headers = source.requestHeaders;
  const path = headers?.path;
  switch (key) {
    case "path":
      return bytes(path);
    case "url_path":
      return path === undefined ? undefined : bytes(path.replace(/\?.*/s, ""));
    case "query":
      return path?.includes("?") ? bytes(path.slice(path.indexOf("?") + 1)) : path === undefined ? undefined : "";
    case "host":
      return bytes(headers?.authority);
    case "scheme":
      return bytes(headers?.scheme);
    case "method":
      return bytes(headers?.method);
    case "headers":
      return headers === undefined
        ? undefined
        : headerMap(headers, [
            [":authority", headers.authority],
            [":path", headers.path],
            [":method", headers.method],
            [":scheme", headers.scheme],
          ]);
    case "referer":
      return bytes(headers?.get("referer"));
    case "useragent":
      return bytes(headers?.get("user-agent"));
    case "id":
      return bytes(headers?.get("x-request-id"));
    case "protocol":
      return info.protocol;
    case "time":
      return new Nanoseconds(info.startWallMs);
    case "duration":
      return info.endMs === undefined ? undefined : new Nanoseconds(info.endMs - info.startMs);
    case "size": {
      const length = headers?.get("content-length");
      return whole(length !== undefined && /^\d+$/.test(length) ? Number(length) : info.bytesReceived);
    }
    case "total_size":
      return whole(info.bytesReceived + (headers?.byteSize() ?? 0));
    default:
      return undefined;
  }
}

function response(key: string, source: PropertySource, info: StreamInfo): Value {
  const headers = source.responseHeaders;
  switch (key) {
    case "code":
      return whole(info.responseCode ?? headers?.status);
    case "code_details":
      return info.responseCodeDetails;
    case "flags":
      return whole(info.flags);
    case "headers":
      return headers === undefined ? undefined : headerMap(headers, [[":status", String(headers.status)]]);
    case "trailers":
      return headerMap(source.responseTrailers, []);
    case "grpc_status": {
      const text = source.responseTrailers?.get("grpc-status") ?? headers?.get("grpc-status");
      return text !== undefined && /^\d+$/.test(text) ? whole(Number(text)) : undefined;
    }
    case "size":
      return whole(info.bytesSent);
    case "total_size":
      return whole(info.bytesSent + (headers?.byteSize() ?? 0) + (source.responseTrailers?.byteSize() ?? 0));
    case "backend_latency": {
      const up = info.upstream;
      return up?.firstTxByteMs === undefined || up.lastRxByteMs === undefined ? undefined : new Nanoseconds(up.lastRxByteMs - up.firstTxByteMs);
    }
    default:
      return undefined;
  }
}

function tlsValue(key: string, tls: TlsInfo | undefined): Value {
  if (tls === undefined) return undefined;
  const peer = tls.peerCertificate;
  const own = tls.localCertificate;
  const san = (certificate: typeof peer, kind: string): Value => {
    const found = certificate === undefined ? undefined : subjectAltNames(certificate).find((one) => one.kind === kind);
    return found?.value;
  };
  const field = (certificate: typeof peer, name: "subject" | "fingerprint256" | "issuer"): Value => {
    const text = certificate === undefined ? "" : certificateField(certificate, name);
    return text === "" ? undefined : bytes(text);
  };
  switch (key) {
    case "tls_version":
      return tls.version;
    case "subject_local_certificate":
      return field(own, "subject");
    case "subject_peer_certificate":
      return field(peer, "subject");
    case "uri_san_local_certificate":
      return san(own, "URI");
    case "uri_san_peer_certificate":
      return san(peer, "URI");
    case "dns_san_local_certificate":
      return san(own, "DNS");
    case "dns_san_peer_certificate":
      return san(peer, "DNS");
    case "sha256_peer_certificate_digest":
      return field(peer, "fingerprint256");
    default:
      return undefined;
  }
}

function connection(key: string, info: StreamInfo): Value {
  switch (key) {
    case "id":
      return whole(info.connectionId);
    case "mtls":
      return info.downstreamTls?.peerCertificatePresented ?? false;
    case "requested_server_name":
      return info.requestedServerName === "" ? undefined : info.requestedServerName;
    case "termination_details":
      return info.connectionTerminationDetails;
    case "transport_failure_reason":
      return info.downstreamTransportFailureReason === "" ? undefined : info.downstreamTransportFailureReason;
    default:
      return tlsValue(key, info.downstreamTls);
  }
}

function address(key: string, from: Address | undefined): Value {
  if (from === undefined) return undefined;
  if (key === "address") return from.text;
  return key === "port" && from.kind === "ip" ? whole(from.port) : undefined;
}

function upstream(key: string, info: StreamInfo): Value {
  const up = info.upstream;
  if (up === undefined) return undefined;
  switch (key) {
    case "address":
    case "port":
      return address(key, up.remoteAddress ?? up.host?.address);
    case "local_address":
      return up.localAddress?.text;
    case "transport_failure_reason":
      return up.transportFailureReason === "" ? undefined : up.transportFailureReason;
    case "request_attempt_count":
      return whole(info.attemptCount);
    case "cx_pool_ready_duration":
      return up.poolReadyMs === undefined ? undefined : new Nanoseconds(up.poolReadyMs);
    default:
      return tlsValue(key, up.tls);
  }
}

function xds(key: string, info: StreamInfo, { plugin }: PropertySource): Value {
  switch (key) {
    case "cluster_name":
      return info.upstreamClusterName ?? info.cluster?.name;
    case "cluster_metadata":
      return info.cluster === undefined ? undefined : metadata(info.cluster.metadata);
    case "route_name":
      return info.route?.name ?? info.routeName;
    case "route_metadata":
      return info.route === undefined ? undefined : metadata(info.route.metadata);
    case "virtual_host_name":
      return info.route?.virtualHost.name ?? info.virtualHostName;
    case "virtual_host_metadata":
      return info.route === undefined ? undefined : metadata(info.route.virtualHost.metadata);
    case "upstream_host_metadata":
      return info.upstream?.host === undefined ? undefined : metadata(info.upstream.host.metadata);
    case "filter_chain_name":
      return info.filterChainName;
    case "listener_name":
      return info.listenerName;
    case "listener_direction":
      return whole(plugin?.direction);
    case "listener_metadata":
      return metadata((info.listenerMetadata as Record<string, JsonObject> | undefined) ?? {});
    case "node":
      if (plugin === undefined) return undefined;
      return new Map<string, Value>([
        ["id", plugin.node.id],
        ["cluster", plugin.node.cluster],
      ]);
    default:
      return undefined;
  }
}
