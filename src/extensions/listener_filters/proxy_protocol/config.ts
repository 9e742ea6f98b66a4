/** envoy.filters.listener.proxy_protocol: the client's address as the proxy before us tells it. */
import { isMessage } from "../../../config/message.ts";
import type { ProxyProtocol, ProxyProtocol_KeyValuePair } from "../../../config/schema/types/envoy.extensions.filters.listener.proxy_protocol.v3.d.ts";
import { getLogger } from "../../../log/log.ts";
import type { Counter, StatsScope } from "../../../stats/stats.ts";
import type { CompileContext, Extension, ListenerFilter, ListenerFilterSocket } from "../../extension.ts";
import { maxHeaderBytes, mayBeHeader, parseProxyHeader, type Tlv } from "./parse.ts";

const log = getLogger("filter");
const typeName = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const defaultNamespace = "envoy.filters.listener.proxy_protocol";

interface VersionStats {
  readonly found: Counter;
  readonly disallowed: Counter;
  readonly error: Counter;
}

interface Settings {
  readonly optional: boolean;
  readonly disallowed: ReadonlySet<1 | 2>;
  readonly rules: ReadonlyMap<number, ProxyProtocol_KeyValuePair>;
  /** Envoy's older name for all refusals. */
  readonly errors: Counter;
  readonly notFoundAllowed: Counter;
  readonly notFoundDisallowed: Counter;
  readonly versions: Readonly<Record<1 | 2, VersionStats>>;
}

class ProxyProtocolFilter implements ListenerFilter {
  readonly maxReadBytes = maxHeaderBytes;
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  inspect(peeked: Buffer, socket: ListenerFilterSocket): "need_more" | "done" | "close" {
    const settings = this.#settings;
    if (settings.optional && peeked.length > 0 && !mayBeHeader(peeked)) {
      settings.notFoundAllowed.inc();
      return "done";
    }
    const header = parseProxyHeader(peeked);
    switch (header.kind) {
      case "need_more":
        return "need_more";
      case "error":
        return this.#refuse(header.version, header.why, socket);
      case "found":
        break;
    }
    const stats = settings.versions[header.version];
    if (settings.disallowed.has(header.version)) {
      stats.disallowed.inc();
      settings.errors.inc();
      return "close";
    }
    stats.found.inc();
    if (header.source !== undefined && header.destination !== undefined) {
      socket.remoteAddress = header.source;
      socket.localAddress = header.destination;
    }
    for (const tlv of header.tlvs) this.#keep(tlv, socket);
    socket.consume(header.length);
    return "done";
  }

  #refuse(version: 0 | 1 | 2, why: string, socket: ListenerFilterSocket): "close" {
    const settings = this.#settings;
    if (log.debugEnabled) log.debug(`proxy protocol from ${socket.remoteAddress.text}: ${why}`);
    settings.errors.inc();
    if (version === 0) settings.notFoundDisallowed.inc();
    else settings.versions[version].error.inc();
    return "close";
  }

  #keep(tlv: Tlv, socket: ListenerFilterSocket): void {
    const target = this.#settings.rules.get(tlv.type);
    if (target === undefined) return;
    const text = target.valueStringEncoding === 2 ? tlv.value.toString("base64") : sanitizeUtf8(tlv.value);
    socket.info.setDynamicMetadata(target.metadataNamespace === "" ? defaultNamespace : target.metadataNamespace, { [target.key]: text });
  }
}

/** Bytes as text; each byte that is no UTF-8 becomes "!". */
function sanitizeUtf8(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  return text.includes("\ufffd") ? text.replaceAll("\ufffd", "!") : text;
}

function versionStats(scope: StatsScope, version: 1 | 2): VersionStats {
  const of = scope.scope(`versions.v${version}.`);
  return { found: of.counter("found"), disallowed: of.counter("disallowed"), error: of.counter("error") };
}

function compileSettings(message: ProxyProtocol, context: CompileContext): Settings {
  const scope = context.stats.scope(message.statPrefix === "" ? "proxy_proto." : `proxy_proto.${message.statPrefix}.`);
  const rules = new Map<number, ProxyProtocol_KeyValuePair>();
  for (const rule of message.rules) if (rule.onTlvPresent !== undefined) rules.set(rule.tlvType, rule.onTlvPresent);
  if (message.tlvLocation !== 0)
    context.report(message, "tlv_location", {
      code: "OR4003",
      text: "tlv_location FILTER_STATE is not supported",
      hint: "leave it out: values are kept as dynamic metadata",
    });
  // ProxyProtocolConfig.Version: 0 V1, 1 V2
  const disallowed = new Set<1 | 2>(message.disallowedVersions.map((version) => (version === 0 ? 1 : 2)));
  return {
    optional: message.allowRequestsWithoutProxyProtocol,
    disallowed,
    rules,
    errors: context.stats.counter("downstream_cx_proxy_proto_error"),
    notFoundAllowed: scope.counter("not_found_allowed"),
    notFoundDisallowed: scope.counter("not_found_disallowed"),
    versions: { 1: versionStats(scope, 1), 2: versionStats(scope, 2) },
  };
}

export default {
  honours: {
    [typeName]: ["rules", "allow_requests_without_proxy_protocol", "disallowed_versions", "stat_prefix", "tlv_location"],
    [`${typeName}.Rule`]: "*",
    [`${typeName}.KeyValuePair`]: "*",
  },
  listenerFilter: {
    compile(message, context) {
      if (!isMessage<ProxyProtocol>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileSettings(message, context);
      return () => new ProxyProtocolFilter(settings);
    },
  },
} satisfies Extension;
