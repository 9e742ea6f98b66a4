/** Inputs of the generic matcher for HTTP streams, and the network inputs that streams have too. */
import type { AnyMessage } from "../config/message.ts";
import type { Matcher as CommonMatcher } from "../config/schema/types/envoy.config.common.matcher.v3.d.ts";
import type { Config as EnvironmentVariableInput } from "../config/schema/types/envoy.extensions.matching.common_inputs.environment_variable.v3.d.ts";
import type { DynamicMetadataInput, FilterStateInput } from "../config/schema/types/envoy.extensions.matching.common_inputs.network.v3.d.ts";
import type { HttpRequestHeaderMatchInput, HttpRequestQueryParamMatchInput } from "../config/schema/types/envoy.type.matcher.v3.d.ts";
import type { Matcher as XdsMatcher } from "../config/schema/types/xds.type.matcher.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileMatcher, type Matcher } from "./matcher.ts";
import { decodedQueryParameter } from "./query-parameters.ts";
import { toBytes } from "./string-matcher.ts";
import { valueAt } from "./value-matcher.ts";

const network = "envoy.extensions.matching.common_inputs.network.v3";
const ssl = "envoy.extensions.matching.common_inputs.ssl.v3";

export const honours: Honours = {
  "envoy.type.matcher.v3.HttpRequestHeaderMatchInput": "*",
  "envoy.type.matcher.v3.HttpRequestTrailerMatchInput": "*",
  "envoy.type.matcher.v3.HttpResponseHeaderMatchInput": "*",
  "envoy.type.matcher.v3.HttpResponseTrailerMatchInput": "*",
  "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput": "*",
  "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput": "*",
  "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput": "*",
  "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput": "*",
  [`${network}.DestinationIPInput`]: "*",
  [`${network}.DestinationPortInput`]: "*",
  [`${network}.SourceIPInput`]: "*",
  [`${network}.SourcePortInput`]: "*",
  [`${network}.DirectSourceIPInput`]: "*",
  [`${network}.SourceTypeInput`]: "*",
  [`${network}.ServerNameInput`]: "*",
  [`${network}.TransportProtocolInput`]: "*",
  [`${network}.ApplicationProtocolInput`]: "*",
  [`${network}.FilterStateInput`]: ["key"],
  [`${network}.DynamicMetadataInput`]: "*",
  [`${network}.DynamicMetadataInput.PathSegment`]: "*",
  [`${ssl}.UriSanInput`]: "*",
  [`${ssl}.DnsSanInput`]: "*",
  [`${ssl}.SubjectInput`]: "*",
  "envoy.extensions.matching.common_inputs.environment_variable.v3.Config": "*",
};

/** What inputs read. */
export interface HttpMatchData {
  readonly requestHeaders: RequestHeaders | undefined;
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly requestTrailers: Trailers | undefined;
  readonly responseTrailers: Trailers | undefined;
  readonly info: StreamInfo;
}

export type Input<D> = (data: D) => string | undefined;

/** All values of a field, joined by commas, as Envoy's header inputs give them. */
function fieldValue(headers: HeaderMap | undefined, name: string): string | undefined {
  if (headers === undefined) return undefined;
  const values = headers.getAll(name);
  return values.length === 0 ? undefined : values.length === 1 ? values[0] : values.join(",");
}

/** An input that needs only what is known of a connection or stream; undefined where the message is none. */
export function compileStreamInput(message: AnyMessage): Input<StreamInfo> | undefined {
  switch (message.$typeName) {
    case `${network}.DestinationIPInput`:
      return (info) => (info.downstreamLocalAddress?.kind === "ip" ? info.downstreamLocalAddress.ip : undefined);
    case `${network}.DestinationPortInput`:
      return (info) => (info.downstreamLocalAddress?.kind === "ip" ? String(info.downstreamLocalAddress.port) : undefined);
    case `${network}.SourceIPInput`:
      return (info) => (info.downstreamRemoteAddress?.kind === "ip" ? info.downstreamRemoteAddress.ip : undefined);
    case `${network}.SourcePortInput`:
      return (info) => (info.downstreamRemoteAddress?.kind === "ip" ? String(info.downstreamRemoteAddress.port) : undefined);
    case `${network}.DirectSourceIPInput`:
      return (info) => (info.downstreamDirectRemoteAddress?.kind === "ip" ? info.downstreamDirectRemoteAddress.ip : undefined);
    case `${network}.SourceTypeInput`:
      return (info) => {
        const remote = info.downstreamRemoteAddress;
        const local = info.downstreamLocalAddress;
        if (remote?.kind === "pipe") return "local";
        if (remote?.kind !== "ip") return undefined;
        return remote.ip.startsWith("127.") || remote.ip === "::1" || (local?.kind === "ip" && local.ip === remote.ip) ? "local" : undefined;
      };
    case `${network}.ServerNameInput`:
      return (info) => (info.requestedServerName === "" ? undefined : info.requestedServerName);
    case `${network}.TransportProtocolInput`:
      return (info) => (info.downstreamTls === undefined ? "raw_buffer" : "tls");
    case `${network}.ApplicationProtocolInput`:
      return (info) => (info.downstreamTls === undefined || info.downstreamTls.alpn === "" ? undefined : `'${info.downstreamTls.alpn}'`);
    case `${network}.FilterStateInput`: {
      const { key } = message as FilterStateInput;
      return (info) => {
        const text = info.getFilterState(key)?.serializeAsString();
        return text === undefined ? undefined : toBytes(text);
      };
    }
    case `${network}.DynamicMetadataInput`: {
      const config = message as DynamicMetadataInput;
      const path = config.path.map((segment) => (segment.segment.case === "key" ? segment.segment.value : ""));
      return (info) => {
        const value =
          info.hasDynamicMetadata && Object.hasOwn(info.dynamicMetadata, config.filter) ? valueAt(info.dynamicMetadata[config.filter], path) : undefined;
        return typeof value === "string" ? toBytes(value) : undefined;
      };
    }
    case `${ssl}.UriSanInput`:
      return (info) => subjectAltNames(info, "URI:");
    case `${ssl}.DnsSanInput`:
      return (info) => subjectAltNames(info, "DNS:");
    case `${ssl}.SubjectInput`:
      return (info) => info.downstreamTls?.peerCertificate?.subject.split("\n").reverse().join(",");
    case "envoy.extensions.matching.common_inputs.environment_variable.v3.Config": {
      const value = process.env[(message as EnvironmentVariableInput).name];
      const bytes = value === undefined ? undefined : toBytes(value);
      return () => bytes;
    }
    default:
      return undefined;
  }
}

function subjectAltNames(info: StreamInfo, kind: string): string | undefined {
  const names = info.downstreamTls?.peerCertificate?.subjectAltName;
  if (names === undefined) return undefined;
  const found = names
    .split(", ")
    .filter((name) => name.startsWith(kind))
    .map((name) => name.slice(kind.length));
  return found.length === 0 ? undefined : found.join(",");
}

/** An input of HTTP streams; undefined where the message is none. */
export function compileHttpInput(message: AnyMessage): Input<HttpMatchData> | undefined {
  switch (message.$typeName) {
    case "envoy.type.matcher.v3.HttpRequestHeaderMatchInput": {
      const name = (message as HttpRequestHeaderMatchInput).headerName.toLowerCase();
      return (data) => fieldValue(data.requestHeaders, name);
    }
    case "envoy.type.matcher.v3.HttpResponseHeaderMatchInput": {
      const name = (message as unknown as HttpRequestHeaderMatchInput).headerName.toLowerCase();
      return (data) => fieldValue(data.responseHeaders, name);
    }
    case "envoy.type.matcher.v3.HttpRequestTrailerMatchInput": {
      const name = (message as unknown as HttpRequestHeaderMatchInput).headerName.toLowerCase();
      return (data) => fieldValue(data.requestTrailers, name);
    }
    case "envoy.type.matcher.v3.HttpResponseTrailerMatchInput": {
      const name = (message as unknown as HttpRequestHeaderMatchInput).headerName.toLowerCase();
      return (data) => fieldValue(data.responseTrailers, name);
    }
    case "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput": {
      const name = toBytes((message as HttpRequestQueryParamMatchInput).queryParam);
      return (data) => (data.requestHeaders?.path === undefined ? undefined : decodedQueryParameter(data.requestHeaders.path, name));
    }
    case "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput":
      return (data) => (data.responseHeaders === undefined ? undefined : String(data.responseHeaders.status));
    case "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput":
      return (data) => (data.responseHeaders === undefined ? undefined : `${Math.floor(data.responseHeaders.status / 100)}xx`);
    case "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput":
      // A reply that did not come through the router's upstream path.
      return (data) => (data.responseHeaders === undefined ? undefined : String(data.info.responseCodeDetails !== "via_upstream"));
    default: {
      const input = compileStreamInput(message);
      return input === undefined ? undefined : (data) => input(data.info);
    }
  }
}

export interface HttpMatcher<A> {
  match(requestHeaders: RequestHeaders | undefined, responseHeaders: ResponseHeaders | undefined, info: StreamInfo): A | undefined;
}

/** Compiles a matcher over HTTP streams; `action` turns an action message into what the caller needs. */
export function compileHttpMatcher<A>(
  message: XdsMatcher | CommonMatcher,
  context: CompileContext,
  action: (message: AnyMessage, name: string, at: object) => A | undefined,
): HttpMatcher<A> {
  const matcher: Matcher<HttpMatchData, A> = compileMatcher<HttpMatchData, A>(message, context, {
    input(inputMessage, at) {
      const input = compileHttpInput(inputMessage);
      if (input === undefined)
        context.report(at, "typed_config", { code: "OR4006", text: `${inputMessage.$typeName} is not a supported input of HTTP matchers` });
      return input;
    },
    action,
  });
  return {
    match(requestHeaders, responseHeaders, info) {
      return matcher.match({ requestHeaders, responseHeaders, requestTrailers: undefined, responseTrailers: undefined, info });
    },
  };
}
