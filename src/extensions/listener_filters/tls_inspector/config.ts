/** envoy.filters.listener.tls_inspector: whether a client speaks TLS, and what its hello asks for, before a filter chain is chosen. */
import { isMessage } from "../../../config/message.ts";
import type { TlsInspector } from "../../../config/schema/types/envoy.extensions.filters.listener.tls_inspector.v3.d.ts";
import { handshakeMessage, maxHelloBytes, parseClientHello } from "../../../net/tls/client-hello.ts";
import type { Counter, Histogram, StatsStore } from "../../../stats/stats.ts";
import type { Extension, ListenerFilter, ListenerFilterSocket } from "../../extension.ts";
import { ja3, ja4, parseHelloParts } from "./fingerprints.ts";

const typeName = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

interface Settings {
  readonly ja3: boolean;
  readonly ja4: boolean;
  readonly maxBytes: number;
  readonly closeOnErrors: boolean;
  readonly stats: Stats;
}

interface Stats {
  readonly client_hello_too_large: Counter;
  readonly tls_found: Counter;
  readonly tls_not_found: Counter;
  readonly alpn_found: Counter;
  readonly alpn_not_found: Counter;
  readonly sni_found: Counter;
  readonly sni_not_found: Counter;
  readonly bytes_processed: Histogram;
}

class TlsInspectorFilter implements ListenerFilter {
  readonly #settings: Settings;
  readonly maxReadBytes: number;

  constructor(settings: Settings) {
    this.#settings = settings;
    // One byte more tells a hello that fits from one that does not.
    this.maxReadBytes = settings.maxBytes + 1;
  }

  inspect(peeked: Buffer, socket: ListenerFilterSocket): "need_more" | "done" | "close" {
    const { stats, maxBytes, closeOnErrors } = this.#settings;
    if (peeked.length === 0) return "need_more";
    const hello = parseClientHello(peeked);
    const tooLarge = announcedBytes(peeked) > maxBytes;
    if (hello === "partial" || tooLarge) {
      if (!tooLarge && peeked.length < maxBytes) return "need_more";
      stats.client_hello_too_large.inc();
      return "close";
    }
    stats.bytes_processed.record(peeked.length);
    if (hello === "other") {
      stats.tls_not_found.inc();
      // A record that announces a handshake and is none is a fault of a TLS client, not another protocol.
      return closeOnErrors && peeked[0] === 22 && peeked[1] === 3 ? "close" : "done";
    }
    stats.tls_found.inc();
    (hello.serverName === "" ? stats.sni_not_found : stats.sni_found).inc();
    (hello.alpn.length === 0 ? stats.alpn_not_found : stats.alpn_found).inc();
    socket.detectedTransportProtocol = "tls";
    socket.requestedServerName = hello.serverName;
    socket.requestedApplicationProtocols = hello.alpn;
    if (this.#settings.ja3 || this.#settings.ja4) this.#fingerprint(peeked, socket);
    return "done";
  }

  #fingerprint(peeked: Buffer, socket: ListenerFilterSocket): void {
    const body = handshakeMessage(peeked);
    const parts = typeof body === "string" ? undefined : parseHelloParts(body);
    if (parts === undefined) return;
    if (this.#settings.ja3) socket.ja3 = ja3(parts);
    if (this.#settings.ja4) socket.ja4 = ja4(parts);
  }
}

/** The length of the hello that these bytes begin, 0 where they begin none. */
function announcedBytes(peeked: Buffer): number {
  return peeked.length >= 9 && peeked[0] === 22 && peeked[1] === 3 && peeked[5] === 1 ? 4 + peeked.readUIntBE(6, 3) : 0;
}

function inspectorStats(store: StatsStore): Stats {
  const scope = store.scope("tls_inspector.");
  return {
    client_hello_too_large: scope.counter("client_hello_too_large"),
    tls_found: scope.counter("tls_found"),
    tls_not_found: scope.counter("tls_not_found"),
    alpn_found: scope.counter("alpn_found"),
    alpn_not_found: scope.counter("alpn_not_found"),
    sni_found: scope.counter("sni_found"),
    sni_not_found: scope.counter("sni_not_found"),
    bytes_processed: scope.histogram("bytes_processed", "bytes"),
  };
}

export default {
  // initial_read_buffer_size bounds the first look only; here all that has come is looked at.
  honours: { [typeName]: "*" },
  listenerFilter: {
    compile(message, context) {
      if (!isMessage<TlsInspector>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings: Settings = {
        ja3: message.enableJa3Fingerprinting ?? false,
        ja4: message.enableJa4Fingerprinting ?? false,
        maxBytes: Math.min(message.maxClientHelloSize ?? maxHelloBytes, maxHelloBytes),
        closeOnErrors: message.closeConnectionOnClientHelloParsingErrors,
        stats: inspectorStats(context.stats),
      };
      return () => new TlsInspectorFilter(settings);
    },
  },
} satisfies Extension;
