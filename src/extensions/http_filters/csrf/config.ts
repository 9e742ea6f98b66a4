/** envoy.filters.http.csrf: requests that change something have to come from the site itself, or from origins that are named. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { CsrfPolicy } from "../../../config/schema/types/envoy.extensions.filters.http.csrf.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { compileStringMatcher, type StringMatcher } from "../../../matching/string-matcher.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compileEnabled } from "../common.ts";

const typeName = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy";

interface Policy {
  readonly additionalOrigins: readonly StringMatcher[];
  enabled(): boolean;
  shadowEnabled(): boolean;
}

function compilePolicy(message: CsrfPolicy, context: CompileContext): Policy {
  return {
    additionalOrigins: message.additionalOrigins.map((matcher) => compileStringMatcher(matcher, context)),
    enabled: compileEnabled(message.filterEnabled, false, context),
    shadowEnabled: compileEnabled(message.shadowEnabled, false, context),
  };
}

interface Counts {
  readonly valid: Counter;
  readonly invalid: Counter;
  readonly missing: Counter;
}

const changing: ReadonlySet<string> = new Set(["POST", "PUT", "DELETE", "PATCH"]);

/** Host and port of an absolute URL; "" where it is none. */
function hostOf(url: string): string {
  const at = url.indexOf("://");
  if (at <= 0) return "";
  const rest = url.slice(at + 3);
  const end = rest.search(/[/?#]/);
  return end < 0 ? rest : rest.slice(0, end);
}

class CsrfFilter implements HttpFilter {
  readonly #own: Policy;
  readonly #counts: Counts;
  #callbacks!: DecoderFilterCallbacks;

  constructor(own: Policy, counts: Counts) {
    this.#own = own;
    this.#counts = counts;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    if (!changing.has(headers.method)) return "continue";
    const policy = this.#callbacks.routeConfig<Policy>() ?? this.#own;
    const enabled = policy.enabled();
    if (!enabled && !policy.shadowEnabled()) return "continue";
    const source = hostOf(headers.get("origin") ?? "") || hostOf(headers.get("referer") ?? "");
    let isValid = true;
    if (source === "") {
      isValid = false;
      this.#counts.missing.inc();
    } else if (source !== headers.authority && !policy.additionalOrigins.some((matcher) => matcher.matches(source))) {
      isValid = false;
      this.#counts.invalid.inc();
    }
    if (isValid) {
      this.#counts.valid.inc();
      return "continue";
    }
    if (!enabled) return "continue";
    this.#callbacks.sendLocalReply({ status: 403, body: "Invalid origin", details: "csrf_origin_mismatch" });
    return "stop_all_and_watermark";
  }
}

function settingsOf(message: AnyMessage, context: CompileContext): Policy {
  if (!isMessage<CsrfPolicy>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
  return compilePolicy(message, context);
}

export default {
  honours: { [typeName]: "*" },
  httpFilter: {
    compile(message: AnyMessage, context, { scope }) {
      const policy = settingsOf(message, context);
      const own = scope.scope("csrf.");
      const counts: Counts = { valid: own.counter("request_valid"), invalid: own.counter("request_invalid"), missing: own.counter("missing_source_origin") };
      return () => new CsrfFilter(policy, counts);
    },
    compileRoute: settingsOf,
  },
} satisfies Extension;
