/**
 * Header changes from configuration (`*_headers_to_add`, `*_headers_to_remove`, mutation lists), compiled.
 *
 * Order as Envoy's HeaderParser: removals first; then every new value is formatted from the headers as they are; then overwrites, then additions.
 */
import type { HeaderMutation as HeaderMutationMessage } from "../config/schema/types/envoy.config.common.mutation_rules.v3.d.ts";
import type { HeaderValueOption } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileFormat } from "../formatter/compile.ts";
import type { FormatContext, Formatter } from "../formatter/formatter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileStringMatcher, type StringMatcher, toBytes } from "../matching/string-matcher.ts";

export const honours: Honours = {
  "envoy.config.core.v3.HeaderValueOption": "*",
  "envoy.config.core.v3.HeaderValue": "*",
  "envoy.config.common.mutation_rules.v3.HeaderMutation": "*",
  "envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch": "*",
};

/** HeaderValueOption.append_action by number. */
const appendActions = ["append", "add_if_absent", "overwrite_or_add", "overwrite"] as const;
type AppendAction = (typeof appendActions)[number];

/**
 * Fields that Envoy's header map holds once: a second value is joined to the first by a comma.
 * (envoy/http/header_map.h, inline headers, with the custom ones that its filters register.)
 */
const singleFields: ReadonlySet<string> = new Set([
  "accept",
  "accept-encoding",
  "access-control-allow-credentials",
  "access-control-allow-headers",
  "access-control-allow-methods",
  "access-control-allow-origin",
  "access-control-expose-headers",
  "access-control-max-age",
  "access-control-request-headers",
  "access-control-request-method",
  "authorization",
  "cache-control",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "date",
  "etag",
  "expect",
  "expires",
  "grpc-accept-encoding",
  "grpc-message",
  "grpc-status",
  "grpc-timeout",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "keep-alive",
  "last-modified",
  "location",
  "origin",
  "pragma",
  "proxy-connection",
  "referer",
  "server",
  "te",
  "transfer-encoding",
  "upgrade",
  "user-agent",
  "vary",
  "via",
  "x-client-trace-id",
  "x-envoy-attempt-count",
  "x-envoy-decorator-operation",
  "x-envoy-degraded",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-external-address",
  "x-envoy-force-trace",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-immediate-health-check-fail",
  "x-envoy-internal",
  "x-envoy-ip-tags",
  "x-envoy-is-timeout-retry",
  "x-envoy-max-retries",
  "x-envoy-original-host",
  "x-envoy-original-path",
  "x-envoy-original-url",
  "x-envoy-overloaded",
  "x-envoy-ratelimited",
  "x-envoy-retriable-header-names",
  "x-envoy-retriable-status-codes",
  "x-envoy-retry-grpc-on",
  "x-envoy-retry-on",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-canary",
  "x-envoy-upstream-healthchecked-cluster",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-service-time",
  "x-envoy-upstream-stream-duration-ms",
  "x-forwarded-client-cert",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-forwarded-proto",
  "x-request-id",
]);

/** Adds a value as Envoy's addReferenceKey: joined by a comma where the field is one that stands once. */
export function appendField(headers: HeaderMap, name: string, value: string): void {
  if (singleFields.has(name)) {
    const present = headers.get(name);
    if (present !== undefined) {
      headers.set(name, present === "" ? value : `${present},${value}`);
      return;
    }
  }
  headers.add(name, value);
}

/** Changes to one header map. */
export interface HeaderMutation {
  /** `headers` is what changes; the others are what formatters read. */
  evaluate(headers: HeaderMap, info: StreamInfo, requestHeaders: RequestHeaders | undefined, responseHeaders: ResponseHeaders | undefined): void;
}

interface Addition {
  readonly name: string;
  readonly action: AppendAction;
  readonly keepEmpty: boolean;
  /** A plain text, or what makes it. */
  readonly text: string;
  readonly formatter: Formatter | undefined;
}

/** Whether a field may be changed by configuration: not pseudo-headers, not host. */
export function isModifiable(name: string): boolean {
  return !name.startsWith(":") && name.toLowerCase() !== "host";
}

function compileAddition(option: HeaderValueOption, context: CompileContext): Addition | undefined {
  const header = option.header;
  if (header === undefined) {
    context.report(option, "header", { code: "OR2001", text: "header: value is required" });
    return undefined;
  }
  if (!isModifiable(header.key)) {
    context.report(header, "key", { code: "OR3201", text: `:-prefixed or host headers may not be modified: "${header.key}"` });
    return undefined;
  }
  let action: AppendAction = appendActions[option.appendAction] ?? "append";
  if (option.append !== undefined) {
    if (option.appendAction !== 0) context.report(option, "append", { code: "OR3202", text: "Both append and append_action are set and it's not allowed" });
    action = option.append ? "append" : "overwrite_or_add";
  }
  const raw = header.rawValue.length > 0 ? Buffer.from(header.rawValue).toString("utf8") : header.value;
  let formatter: Formatter | undefined;
  if (raw.includes("%")) formatter = compileFormat(raw, context, { at: header, field: header.rawValue.length > 0 ? "raw_value" : "value", omitEmpty: true });
  return { name: header.key.toLowerCase(), action, keepEmpty: option.keepEmptyValue, text: toBytes(raw), formatter };
}

class CompiledMutation implements HeaderMutation {
  readonly #removals: readonly string[];
  readonly #additions: readonly Addition[];
  readonly #onlyPlainAppends: boolean;

  constructor(removals: readonly string[], additions: readonly Addition[]) {
    this.#removals = removals;
    this.#additions = additions;
    this.#onlyPlainAppends = additions.every((addition) => addition.formatter === undefined && addition.action === "append");
  }

  evaluate(headers: HeaderMap, info: StreamInfo, requestHeaders: RequestHeaders | undefined, responseHeaders: ResponseHeaders | undefined): void {
    for (const name of this.#removals) headers.remove(name);
    const additions = this.#additions;
    if (this.#onlyPlainAppends) {
      for (const addition of additions) if (addition.text !== "" || addition.keepEmpty) appendField(headers, addition.name, addition.text);
      return;
    }
    let formatContext: FormatContext | undefined;
    // Values first, so that every formatter sees the headers as they came.
    const values: (string | undefined)[] = [];
    for (const addition of additions) {
      let value = addition.text;
      if (addition.formatter !== undefined) {
        formatContext ??= { info, requestHeaders, responseHeaders, responseTrailers: undefined, localReplyBody: "", accessLogType: "NotSet" };
        value = addition.formatter.format(formatContext);
      }
      let wanted = value !== "" || addition.keepEmpty;
      if (wanted && addition.action === "add_if_absent") wanted = !headers.has(addition.name);
      else if (wanted && addition.action === "overwrite") wanted = headers.has(addition.name);
      values.push(wanted ? value : undefined);
    }
    for (let i = 0; i < additions.length; i++) {
      const { action, name } = additions[i];
      const value = values[i];
      if (value !== undefined && (action === "overwrite" || action === "overwrite_or_add")) headers.set(name, value);
    }
    for (let i = 0; i < additions.length; i++) {
      const { action, name } = additions[i];
      const value = values[i];
      if (value !== undefined && (action === "append" || action === "add_if_absent")) appendField(headers, name, value);
    }
  }
}

export interface HeaderMutationSource {
  readonly add: readonly HeaderValueOption[];
  readonly remove: readonly string[];
  /** The message that has the two lists, and the proto name of the removals, for findings. */
  readonly at: object;
  readonly removeField: string;
}

/** Compiles a pair of lists; undefined where there is nothing to do. */
export function compileHeaderMutation(source: HeaderMutationSource, context: CompileContext): HeaderMutation | undefined {
  const removals: string[] = [];
  for (const name of source.remove) {
    if (isModifiable(name)) removals.push(name.toLowerCase());
    else context.report(source.at, source.removeField, { code: "OR3201", text: `:-prefixed or host headers may not be removed: "${name}"` });
  }
  const additions: Addition[] = [];
  for (const option of source.add) {
    const addition = compileAddition(option, context);
    if (addition !== undefined) additions.push(addition);
  }
  return removals.length === 0 && additions.length === 0 ? undefined : new CompiledMutation(removals, additions);
}

/** The request or response half of a route, virtual host, weighted cluster or route configuration. */
export function compileRequestMutation(
  message: { readonly requestHeadersToAdd: readonly HeaderValueOption[]; readonly requestHeadersToRemove: readonly string[] },
  context: CompileContext,
): HeaderMutation | undefined {
  if (message.requestHeadersToAdd.length === 0 && message.requestHeadersToRemove.length === 0) return undefined;
  return compileHeaderMutation(
    { add: message.requestHeadersToAdd, remove: message.requestHeadersToRemove, at: message, removeField: "request_headers_to_remove" },
    context,
  );
}
export function compileResponseMutation(
  message: { readonly responseHeadersToAdd: readonly HeaderValueOption[]; readonly responseHeadersToRemove: readonly string[] },
  context: CompileContext,
): HeaderMutation | undefined {
  if (message.responseHeadersToAdd.length === 0 && message.responseHeadersToRemove.length === 0) return undefined;
  return compileHeaderMutation(
    { add: message.responseHeadersToAdd, remove: message.responseHeadersToRemove, at: message, removeField: "response_headers_to_remove" },
    context,
  );
}

/** Compiles a list of single mutations (header_mutation filter, mirrors), each applied before the next is looked at. */
export function compileHeaderMutations(messages: readonly HeaderMutationMessage[], context: CompileContext): HeaderMutation | undefined {
  if (messages.length === 0) return undefined;
  const steps: HeaderMutation[] = [];
  for (const message of messages) {
    const action = message.action;
    switch (action.case) {
      case "remove": {
        if (!isModifiable(action.value))
          context.report(message, "remove", { code: "OR3201", text: `:-prefixed or host headers may not be removed: "${action.value}"` });
        else steps.push(new CompiledMutation([action.value.toLowerCase()], []));
        break;
      }
      case "append": {
        const addition = compileAddition(action.value, context);
        if (addition !== undefined) steps.push(new CompiledMutation([], [addition]));
        break;
      }
      case "removeOnMatch":
        if (action.value.keyMatcher !== undefined) steps.push(new RemoveOnMatch(compileStringMatcher(action.value.keyMatcher, context)));
        break;
    }
  }
  return {
    evaluate(headers, info, requestHeaders, responseHeaders) {
      for (const step of steps) step.evaluate(headers, info, requestHeaders, responseHeaders);
    },
  };
}

class RemoveOnMatch implements HeaderMutation {
  readonly #matcher: StringMatcher;
  constructor(matcher: StringMatcher) {
    this.#matcher = matcher;
  }
  evaluate(headers: HeaderMap): void {
    headers.removeIf((name) => this.#matcher.matches(name));
  }
}
