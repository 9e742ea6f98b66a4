/** HttpProtocolOptions.outlier_detection.error_matcher: which answers are failures, in place of those with a status of 5xx. */
import type { MatchPredicate } from "../../config/schema/types/envoy.config.common.matcher.v3.d.ts";
import type { HttpProtocolOptions } from "../../config/schema/types/envoy.extensions.upstreams.http.v3.d.ts";
import type { CompileContext, Honours } from "../../extensions/extension.ts";
import type { ResponseHeaders } from "../../http/header-map.ts";
import { compileHeaderMatchers, matchesAllHeaders } from "../../matching/header-matcher.ts";

const options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const common = "envoy.config.common.matcher.v3.";

export const honours: Honours = {
  [options]: ["outlier_detection"],
  [`${options}.OutlierDetection`]: "*",
  // Of an exchange only the head of the answer is looked at: other rules could never match.
  [`${common}MatchPredicate`]: ["or_match", "and_match", "not_match", "any_match", "http_response_headers_match"],
  [`${common}MatchPredicate.MatchSet`]: "*",
  [`${common}HttpHeadersMatch`]: "*",
};

export type ErrorMatcher = (headers: ResponseHeaders) => boolean;

export function compileErrorMatcher(message: HttpProtocolOptions | undefined, context: CompileContext): ErrorMatcher | undefined {
  const predicate = message?.outlierDetection?.errorMatcher;
  return predicate === undefined ? undefined : compile(predicate, context);
}

function compile({ rule }: MatchPredicate, context: CompileContext): ErrorMatcher {
  switch (rule.case) {
    case "orMatch": {
      const rules = rule.value.rules.map((one) => compile(one, context));
      return (headers) => rules.some((matches) => matches(headers));
    }
    case "andMatch": {
      const rules = rule.value.rules.map((one) => compile(one, context));
      return (headers) => rules.every((matches) => matches(headers));
    }
    case "notMatch": {
      const matches = compile(rule.value, context);
      return (headers) => !matches(headers);
    }
    case "anyMatch":
      return () => true;
    case "httpResponseHeadersMatch": {
      const matchers = compileHeaderMatchers(rule.value.headers, context);
      return (headers) => matchesAllHeaders(matchers, headers);
    }
    default:
      return () => false; // refused by `honours`
  }
}
