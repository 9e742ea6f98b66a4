/** envoy.filters.http.router */
import { type AnyMessage, durationMs, isMessage } from "../../config/message.ts";
import type { Router } from "../../config/schema/types/envoy.extensions.filters.http.router.v3.d.ts";
import type { CompileContext, Extension, HttpFilterExtension, HttpFilterScope } from "../../extensions/extension.ts";
import { compileAccessLogs, noAccessLog } from "../../formatter/access-log.ts";
import { RouterFilter } from "./filter.ts";
import { routerHeaderNames } from "./header-names.ts";
import { type RouterConfig, routerStats } from "./router-config.ts";
import { type StrictHeader, strictHeader } from "./strict-headers.ts";

const typeName = "envoy.extensions.filters.http.router.v3.Router";

export function compileRouter(message: AnyMessage, context: CompileContext, scope: HttpFilterScope): RouterConfig {
  const router = isMessage<Router>(message, typeName) ? message : undefined;
  const names = routerHeaderNames(context.headerPrefix);
  const logger = compileAccessLogs(router?.upstreamLog ?? [], context);
  const logOptions = router?.upstreamLogOptions;
  const strictHeaders: StrictHeader[] = [];
  for (const name of router?.strictCheckHeaders ?? []) {
    const check = strictHeader(name, names);
    if (check !== undefined) strictHeaders.push(check);
  }
  return {
    stats: routerStats(scope.scope),
    names,
    dynamicStats: router?.dynamicStats ?? true,
    suppressEnvoyHeaders: router?.suppressEnvoyHeaders ?? false,
    respectExpectedTimeout: router?.respectExpectedRqTimeout ?? false,
    suppressGrpcFailureCodes: router?.suppressGrpcRequestFailureCodeStats ?? false,
    rejectEarlyConnectData: router?.rejectConnectRequestEarlyData ?? false,
    strictHeaders,
    upstreamLog:
      logger === noAccessLog
        ? undefined
        : { logger, onPoolReady: logOptions?.flushUpstreamLogOnUpstreamStream ?? false, intervalMs: durationMs(logOptions?.upstreamLogFlushInterval, 0) },
    context,
    zone: context.node.zone,
    random: Math.random,
  };
}

export default {
  honours: {
    [typeName]: [
      "dynamic_stats",
      "upstream_log",
      "upstream_log_options",
      "suppress_envoy_headers",
      "strict_check_headers",
      "respect_expected_rq_timeout",
      "suppress_grpc_request_failure_code_stats",
      "reject_connect_request_early_data",
    ],
    "envoy.extensions.filters.http.router.v3.Router.UpstreamAccessLogOptions": "*",
  },
  httpFilter: {
    terminal: true,
    compile(message, context, scope) {
      const config = compileRouter(message, context, scope);
      return () => new RouterFilter(config);
    },
  } satisfies HttpFilterExtension,
} satisfies Extension;
