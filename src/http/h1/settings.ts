/** HTTP/1 options of a listener or cluster, compiled from Http1ProtocolOptions and its neighbours. */
import type { Http1ProtocolOptions } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import type { Counter, StatsScope } from "../../stats/stats.ts";

export interface H1Settings {
  /** accept_http_10; a 1.0 request without it is answered 426. */
  readonly acceptHttp10: boolean;
  /** default_host_for_http_10 */
  readonly defaultHost: string;
  /** enable_trailers: without it they are read, checked and dropped. */
  readonly enableTrailers: boolean;
  /** How names are written: "preserve" needs names kept on the way in. */
  readonly nameFormat: "lower" | "proper" | "preserve";
  readonly allowChunkedLength: boolean;
  /** allow_custom_methods: any token is a method. */
  readonly customMethods?: boolean;
  /** Head, in bytes. */
  readonly maxHeadBytes: number;
  /** Fields in a head, and in trailers. */
  readonly maxHeaderCount: number;
  readonly underscores: "allow" | "reject" | "drop";
  /** send_fully_qualified_url (upstream): absolute-form targets. */
  readonly absoluteTargets: boolean;
  readonly stats: H1Stats;
}

/** http1.*: names as Envoy's CodecStats. */
export interface H1Stats {
  readonly dropped_headers_with_underscores: Counter;
  readonly metadata_not_supported_error: Counter;
  readonly requests_rejected_with_underscores_in_headers: Counter;
  readonly response_flood: Counter;
}

export function h1Stats(scope: StatsScope): H1Stats {
  const at = scope.scope("http1.");
  return {
    dropped_headers_with_underscores: at.counter("dropped_headers_with_underscores"),
    metadata_not_supported_error: at.counter("metadata_not_supported_error"),
    requests_rejected_with_underscores_in_headers: at.counter("requests_rejected_with_underscores_in_headers"),
    response_flood: at.counter("response_flood"),
  };
}

/** header_key_format. */
export function compileNameFormat(message: Http1ProtocolOptions | undefined, context: CompileContext): H1Settings["nameFormat"] {
  const format = message?.headerKeyFormat?.headerFormat;
  if (format?.case === "properCaseWords") return "proper";
  if (format?.case !== "statefulFormatter") return "lower";
  const { value } = format;
  const extension = context.extension("envoy.http.stateful_header_formatters", value.typedConfig, value, "typed_config", value.name);
  return extension?.other?.["nameFormat"] === "preserve" ? "preserve" : "lower";
}

const proper = new Map<string, string>();

/** "content-type" to "Content-Type": proper_case_words. */
export function properCase(name: string): string {
  let made = proper.get(name);
  if (made === undefined) {
    made = name.replace(/(^|[^a-z0-9])([a-z])/g, (_, before: string, letter: string) => before + letter.toUpperCase());
    if (proper.size < 1000) proper.set(name, made);
  }
  return made;
}
