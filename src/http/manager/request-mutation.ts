/** What the connection manager does to a request's head before filters see it: client address, protocol, internal fields, request id, path. */
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { ipAddress, isLoopback } from "../../net/address.ts";
import type { Address, Connection } from "../../net/connection.ts";
import { machineAddress } from "../../net/machine-address.ts";
import type { RequestHeaders } from "../header-map.ts";
import type { StreamInfo } from "../stream-info.ts";
import { mutateClientCert } from "./client-cert.ts";
import type { ManagerSettings } from "./settings.ts";

/** Fields of one hop (RFC 9110 7.6.1), and ours that no client may send. */
const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"]);

const internalOnly = [
  "retriable-status-codes",
  "retriable-header-names",
  "retry-on",
  "retry-grpc-on",
  "max-retries",
  "upstream-alt-stat-name",
  "upstream-rq-timeout-ms",
  "upstream-rq-per-try-timeout-ms",
  "upstream-rq-timeout-alt-response",
  "expected-rq-timeout-ms",
  "force-trace",
  "ip-tags",
  "original-url",
  "hedge-on-per-try-timeout",
  "internal",
] as const;
/** Fields that are sent on as one where the client repeats them, as Envoy keeps them; each with a bit of its own. */
const combined: ReadonlyMap<string, number> = new Map(
  [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-client-cert",
    "x-request-id",
    "user-agent",
    "via",
    "expect",
    "content-type",
    "grpc-timeout",
    "grpc-accept-encoding",
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
  ].map((name, i) => [name, 1 << i]),
);
const edgeOnly = ["original-path", "decorator-operation", "downstream-service-cluster", "downstream-service-node"] as const;

export function mutateRequest(headers: RequestHeaders, connection: Connection, settings: ManagerSettings, info: StreamInfo, upgrade: boolean): void {
  const list = headers.list;
  let seen = 0;
  let repeated = false;
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i];
    const bit = combined.get(name);
    if (bit !== undefined) {
      if ((seen & bit) !== 0) repeated = true;
      seen |= bit;
    }
    if (!hopByHop.has(name) && name !== "te") continue;
    if (upgrade && (name === "connection" || name === "upgrade")) continue;
    if (name === "te") {
      if (/(^|,)\s*trailers\s*(,|$)/i.test(list[i + 1])) {
        list[i + 1] = "trailers";
        continue;
      }
    } else if (name === "connection" && settings.headerPrefix === "") continue;
    list.splice(i, 2);
    headers.rawNames?.splice(i >> 1, 1);
    i -= 2;
  }
  if (repeated) combine(headers);

  let client: Address | undefined;
  let single = false;
  const remote = connection.remoteAddress;
  const tls = connection.tls !== undefined;
  const forwardedFor = headers.get("x-forwarded-for");
  if (settings.useRemoteAddress) {
    single = forwardedFor === undefined;
    if (settings.xffNumTrustedHops > 0) client = addressFromXff(headers, settings.xffNumTrustedHops - 1)?.address;
    client ??= remote;
    if (!settings.skipXffAppend && remote.kind === "ip") {
      const address = isLoopback(remote) ? machineAddress() : remote.ip;
      headers.set("x-forwarded-for", forwardedFor === undefined || forwardedFor === "" ? address : `${forwardedFor},${address}`);
    }
    if (settings.xffNumTrustedHops === 0 || headers.get("x-forwarded-proto") === undefined) headers.set("x-forwarded-proto", tls ? "https" : "http");
    if (
      settings.appendXForwardedPort &&
      connection.localAddress.kind === "ip" &&
      (settings.xffNumTrustedHops === 0 || headers.get("x-forwarded-port") === undefined)
    ) {
      headers.set("x-forwarded-port", String(connection.localAddress.port));
    }
  } else if (forwardedFor !== undefined) {
    const found = addressFromXff(headers, settings.xffNumTrustedHops);
    client = found?.address;
    single = found?.single ?? false;
  }
  if (headers.get("x-forwarded-proto") === undefined) headers.set("x-forwarded-proto", tls ? "https" : "http");
  if (settings.appendXForwardedPort && connection.localAddress.kind === "ip" && headers.get("x-forwarded-port") === undefined)
    headers.set("x-forwarded-port", String(connection.localAddress.port));
  if (settings.schemeToOverwrite !== "") {
    headers.scheme = settings.schemeToOverwrite;
    headers.set("x-forwarded-proto", settings.schemeToOverwrite);
  }
  if (headers.scheme === undefined) {
    const proto = (headers.get("x-forwarded-proto") as string).toLowerCase();
    headers.scheme = proto === "http" || proto === "https" ? proto : tls ? "https" : "http";
  } else headers.scheme = headers.scheme.toLowerCase();

  const internal = single && client !== undefined && isInternal(client, settings);
  const edge = !internal && settings.useRemoteAddress;
  info.downstreamRemoteAddress = client ?? remote;
  info.isInternalRequest = internal;
  const prefix = settings.headerPrefix;
  if (internal) headers.set(prefix === "x-envoy" ? "x-envoy-internal" : `${prefix}-internal`, "true");
  else removeInternal(headers, prefix, edge);
  const routes = internal ? undefined : settings.routes.of(headers);
  if (routes !== undefined) for (const name of routes.internalOnlyHeaders) headers.remove(name);

  if (settings.addUserAgent) {
    headers.set(`${prefix}-downstream-service-cluster`, settings.node.cluster);
    if (headers.get("user-agent") === undefined) headers.set("user-agent", settings.node.cluster);
    if (settings.node.id !== "") headers.set(`${prefix}-downstream-service-node`, settings.node.id);
  }
  if (settings.via !== "") {
    const via = headers.get("via");
    headers.set("via", via === undefined || via === "" ? settings.via : `${via}, ${settings.via}`);
  }
  // The first proxy of ours that a request from outside meets says who sent it.
  if (edge && info.downstreamRemoteAddress.kind === "ip") headers.set(`${prefix}-external-address`, info.downstreamRemoteAddress.ip);
  if (settings.generateRequestId) {
    const given = headers.get("x-request-id");
    if (given === undefined || given === "" || (edge && !settings.preserveExternalRequestId)) {
      const id = randomUUID();
      if (given === undefined) headers.add("x-request-id", id);
      else headers.set("x-request-id", id);
      info.requestId = id;
    } else info.requestId = given;
  } else info.requestId = headers.get("x-request-id");
  info.streamId = info.requestId;
  mutateClientCert(headers, connection, settings);
}

function combine(headers: RequestHeaders): void {
  for (const name of combined.keys()) {
    const all = headers.getAll(name);
    if (all.length > 1) headers.set(name, all.filter((value) => value !== "").join(","));
  }
}

function removeInternal(headers: RequestHeaders, prefix: string, edge: boolean): void {
  // Nearly always there is none: one pass finds out.
  const list = headers.list;
  let any = false;
  for (let i = 0; i < list.length; i += 2) {
    if (list[i].startsWith(prefix)) {
      any = true;
      break;
    }
  }
  if (!any) return;
  for (const name of internalOnly) headers.remove(`${prefix}-${name}`);
  if (edge) for (const name of edgeOnly) headers.remove(`${prefix}-${name}`);
}

function isInternal(address: Address, settings: ManagerSettings): boolean {
  if (address.kind === "pipe") return settings.unixSocketsInternal;
  return settings.internalAddresses?.contains(address.ip) ?? false;
}

/** The entry `skip` from the right in X-Forwarded-For; `single`: it is the only one. */
export function addressFromXff(headers: RequestHeaders, skip: number): { readonly address: Address; readonly single: boolean } | undefined {
  const entries = headers
    .getAll("x-forwarded-for")
    .join(",")
    .split(",")
    .map((entry) => entry.trim());
  const entry = entries[entries.length - 1 - skip];
  if (entry === undefined || entry === "") return undefined;
  const bare = entry.startsWith("[") ? entry.slice(1, entry.indexOf("]")) : isIP(entry) !== 0 ? entry : entry.replace(/:\d+$/, "");
  if (isIP(bare) === 0) return undefined;
  return { address: ipAddress(bare, 0), single: entries.length === 1 };
}

/** Envoy's path normalisation (RFC 3986 6.2.2, 6.2.3 and merge_slashes, escaped slashes). "reject": 400; a string: the new path. */
export function normalizePath(path: string, settings: ManagerSettings): { readonly path: string; readonly action: "continue" | "reject" | "redirect" } {
  let action: "continue" | "reject" | "redirect" = "continue";
  const question = path.indexOf("?");
  let bare = question < 0 ? path : path.slice(0, question);
  const query = question < 0 ? "" : path.slice(question);
  if (settings.escapedSlashes !== "keep" && /%2f|%5c/i.test(bare)) {
    if (settings.escapedSlashes === "reject") return { path, action: "reject" };
    bare = bare.replace(/%2f/gi, "/").replace(/%5c/gi, "\\");
    if (settings.escapedSlashes === "redirect") action = "redirect";
  }
  if (settings.normalizePath) {
    const normal = canonicalPath(bare);
    if (normal === undefined) return { path, action: "reject" };
    bare = normal;
  }
  if (settings.mergeSlashes && bare.includes("//")) bare = bare.replace(/\/{2,}/g, "/");
  return { path: bare + query, action };
}

/** What a path cannot hold in normal form; a percent sign that begins no escape has become NUL by then. */
const escapedInPaths = /[^\0!$-;=@-Z\][_a-z~]/g;
/** Parameters of a dot segment, which hide it from us but not from servers that drop them ("/a/..;x/b"). Envoy sees plain dots behind "/" only. */
const dotSegmentParameters = /(?<=[\\/](?:\.|%2e){1,2});[^/]*/gi;

/**
 * Removes dot segments, decodes %XX of unreserved characters, escapes what a URL cannot hold, turns a backslash into a slash. What is decoded
 * never becomes part of an escape that was not there: its percent sign is escaped then. undefined: not a path.
 */
function canonicalPath(path: string): string | undefined {
  if (path.charCodeAt(0) !== 47) return undefined;
  if (!/[\\%.]|[^!$-;=@-Z\][_a-z~]/.test(path)) return path;
  const bare = path.includes(";") ? path.replace(dotSegmentParameters, "") : path;
  if (bare.includes("%00")) return undefined;
  const decoded = bare
    .replace(/\\/g, "/")
    .replace(/%([0-9a-f]{2})?/gi, (whole, hex: string | undefined) => {
      if (hex === undefined) return "\0";
      const char = String.fromCharCode(Number.parseInt(hex, 16));
      return /[A-Za-z0-9._~-]/.test(char) ? char : whole;
    })
    .replace(escapedInPaths, (char) => (char === "%" ? char : `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`))
    .replace(/\0(?=[0-9a-f]{2})/gi, "%25")
    .replaceAll("\0", "%");
  const out: string[] = [];
  const segments = decoded.split("/").slice(1);
  segments.forEach((segment, index) => {
    const last = index === segments.length - 1;
    if (segment === "..") {
      if (out.length > 0) out.pop();
      if (last) out.push("");
    } else if (segment === ".") {
      if (last) out.push("");
    } else out.push(segment);
  });
  return `/${out.join("/")}`;
}

/** strip_matching_host_port, strip_any_host_port, strip_trailing_host_dot. */
export function stripHost(headers: RequestHeaders, settings: ManagerSettings, localPort: number): void {
  let host = headers.authority;
  if (host === undefined) return;
  const colon = host.lastIndexOf(":");
  let port = "";
  if (colon > 0 && colon > host.lastIndexOf("]") && /^\d+$/.test(host.slice(colon + 1))) {
    port = host.slice(colon);
    host = host.slice(0, colon);
  }
  if (settings.stripTrailingHostDot && host.endsWith(".")) host = host.slice(0, -1);
  if (port !== "") {
    // CONNECT needs its port.
    const strip = headers.method !== "CONNECT" && (settings.stripPort === "any" || (settings.stripPort === "matching" && Number(port.slice(1)) === localPort));
    if (!strip) host += port;
  }
  headers.authority = host;
}
