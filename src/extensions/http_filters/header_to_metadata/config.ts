/** envoy.filters.http.header_to_metadata: dynamic metadata from headers and cookies, for balancing by subsets, other filters and logs. */
import { type AnyMessage, isMessage, type JsonValue } from "../../../config/message.ts";
import type { Config, Config_KeyValuePair, Config_Rule } from "../../../config/schema/types/envoy.extensions.filters.http.header_to_metadata.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import { compileRegexRewrite } from "../../../matching/string-matcher.ts";
import { cookieValue } from "../../../router/cookie.ts";
import type { CompileContext, Extension } from "../../extension.ts";

const pkg = "envoy.extensions.filters.http.header_to_metadata.v3.";
const typeName = `${pkg}Config`;
const defaultNamespace = "envoy.filters.http.header_to_metadata";
/** Envoy keeps no longer values. */
const maxValueLength = 8 * 1024;

type Rule = (headers: HeaderMap, info: StreamInfo) => void;

/** Sets one key; undefined where the value cannot be had. */
function compilePair(message: Config_KeyValuePair, context: CompileContext): (text: string, info: StreamInfo) => void {
  const namespace = message.metadataNamespace === "" ? defaultNamespace : message.metadataNamespace;
  const { key, value: fixed, type, encode } = message;
  const rewrite = message.regexValueRewrite === undefined ? undefined : compileRegexRewrite(message.regexValueRewrite, context);
  return (text, info) => {
    let value = fixed !== "" ? Buffer.from(fixed).toString("latin1") : rewrite === undefined ? text : rewrite.regex.replaceAll(text, rewrite.substitution);
    if (value === "" || value.length >= maxValueLength) return;
    if (encode === 1) {
      if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) return;
      value = Buffer.from(value, "base64").toString("latin1");
    }
    const typed = typedValue(value, type);
    if (typed !== undefined) info.setDynamicMetadata(namespace, { [key]: typed });
  };
}

/** Config.ValueType: 0 STRING, 1 NUMBER, 2 PROTOBUF_VALUE (JSON here). */
function typedValue(value: string, type: 0 | 1 | 2): JsonValue | undefined {
  const text = Buffer.from(value, "latin1").toString("utf8");
  if (type === 0) return text;
  if (type === 1) {
    const number = Number(text.trim());
    return text.trim() === "" || Number.isNaN(number) ? undefined : number;
  }
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

function compileRule(message: Config_Rule, context: CompileContext, isRequest: boolean): Rule {
  const { cookie, remove } = message;
  const header = message.header.toLowerCase();
  if ((header === "") === (cookie === ""))
    context.report(message, header === "" ? "header" : "cookie", {
      code: "OR3720",
      text: "Cookie and Header cannot both be specified, and one of them has to be",
      hint: "one rule reads one header, or one cookie",
    });
  const present = message.onHeaderPresent && compilePair(message.onHeaderPresent, context);
  const missing = message.onHeaderMissing && compilePair(message.onHeaderMissing, context);
  if (present === undefined && missing === undefined)
    context.report(message, undefined, {
      code: "OR3720",
      text: `header to metadata filter: rule for ${cookie === "" ? `header '${header}'` : `cookie '${cookie}'`} has neither present nor missing set`,
    });
  const missingMessage = message.onHeaderMissing;
  if (missingMessage !== undefined && missingMessage.value === "")
    context.report(missingMessage, "value", {
      code: "OR3720",
      text: "Cannot specify on_header_missing rule with empty value",
      hint: "give the value that stands for an absent header",
    });
  return (headers, info) => {
    const value = cookie !== "" ? cookieValue(headers, cookie) : headerValue(headers, header, isRequest);
    if (value === undefined) {
      missing?.("", info);
      return;
    }
    present?.(value, info);
    if (remove && cookie === "") headers.remove(header);
  };
}

function headerValue(headers: HeaderMap, name: string, isRequest: boolean): string | undefined {
  if (name.startsWith(":")) {
    const request = headers as RequestHeaders;
    if (!isRequest) return name === ":status" ? String((headers as ResponseHeaders).status) : undefined;
    return { ":path": request.path, ":method": request.method, ":authority": request.authority, ":scheme": request.scheme }[name];
  }
  const all = headers.getAll(name);
  return all.length === 0 ? undefined : all.join(",");
}

interface Rules {
  readonly request: readonly Rule[];
  readonly response: readonly Rule[];
}

function compileRules(message: AnyMessage, context: CompileContext): Rules {
  if (!isMessage<Config>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
  return {
    request: message.requestRules.map((rule) => compileRule(rule, context, true)),
    response: message.responseRules.map((rule) => compileRule(rule, context, false)),
  };
}

class HeaderToMetadataFilter implements HttpFilter {
  readonly #own: Rules;
  #callbacks!: DecoderFilterCallbacks;

  constructor(own: Rules) {
    this.#own = own;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  get #rules(): Rules {
    return this.#callbacks.routeConfig<Rules>() ?? this.#own;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    for (const rule of this.#rules.request) rule(headers, this.#callbacks.streamInfo);
    return "continue";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    for (const rule of this.#rules.response) rule(headers, this.#callbacks.streamInfo);
    return "continue";
  }
}

export default {
  honours: {
    [typeName]: ["request_rules", "response_rules"],
    [`${pkg}Config.Rule`]: "*",
    [`${pkg}Config.KeyValuePair`]: "*",
  },
  httpFilter: {
    compile(message: AnyMessage, context) {
      const rules = compileRules(message, context);
      return () => new HeaderToMetadataFilter(rules);
    },
    compileRoute: compileRules,
  },
} satisfies Extension;
