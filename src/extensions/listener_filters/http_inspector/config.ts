/** envoy.filters.listener.http_inspector: finds out whether plain bytes are HTTP, and which version, for filter chains to match. */
import type { Counter } from "../../../stats/stats.ts";
import type { Extension, ListenerFilter, ListenerFilterSocket } from "../../extension.ts";

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** A request line of more bytes is not waited for. */
const maxLineBytes = 64 * 1024;

export type HttpVersionFound = "h2c" | "http/1.1" | "http/1.0" | "none" | "need_more" | "too_long";

/** What the first bytes of a connection are. A line without a known version counts as HTTP/1.0, as with Envoy. */
export function detectHttp(bytes: Buffer): HttpVersionFound {
  const length = Math.min(bytes.length, preface.length);
  if (length === 0) return "need_more";
  if (bytes.compare(preface, 0, length, 0, length) === 0) return length === preface.length ? "h2c" : "need_more";
  if (bytes[0] <= 0x20 || bytes[0] >= 0x7f) return "none";
  const end = bytes.indexOf(10);
  if (end < 0 || end >= maxLineBytes) return bytes.length >= maxLineBytes ? "too_long" : "need_more";
  const words = bytes
    .toString("latin1", 0, bytes[end - 1] === 13 ? end - 1 : end)
    .split(" ")
    .filter((word) => word !== "");
  if (words.length < 2 || words.length > 3) return "none";
  if (words.length === 2) return "http/1.0";
  const version = words[2];
  if (version.length !== 8 || !version.startsWith("HTTP/") || version[6] !== "." || !isDigit(version, 5) || !isDigit(version, 7)) return "none";
  return version === "HTTP/1.1" ? "http/1.1" : "http/1.0";
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

interface Stats {
  readonly "http/1.0": Counter;
  readonly "http/1.1": Counter;
  readonly h2c: Counter;
  readonly none: Counter;
  readonly read_error: Counter;
}

class HttpInspector implements ListenerFilter {
  readonly maxReadBytes = maxLineBytes;
  readonly #stats: Stats;

  constructor(stats: Stats) {
    this.#stats = stats;
  }

  inspect(peeked: Buffer, socket: ListenerFilterSocket): "need_more" | "done" | "close" {
    // What is known to be TLS is not looked at.
    if (socket.detectedTransportProtocol !== "" && socket.detectedTransportProtocol !== "raw_buffer") return "done";
    const found = detectHttp(peeked);
    if (found === "need_more") return "need_more";
    if (found === "too_long") {
      this.#stats.read_error.inc();
      return "close";
    }
    this.#stats[found].inc();
    if (found !== "none") socket.requestedApplicationProtocols = [found];
    return "done";
  }
}

export default {
  honours: { "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "*" },
  listenerFilter: {
    compile(_message, context) {
      const scope = context.stats.scope("http_inspector.");
      const stats: Stats = {
        "http/1.0": scope.counter("http10_found"),
        "http/1.1": scope.counter("http11_found"),
        h2c: scope.counter("http2_found"),
        none: scope.counter("http_not_found"),
        read_error: scope.counter("read_error"),
      };
      return () => new HttpInspector(stats);
    },
  },
} satisfies Extension;
