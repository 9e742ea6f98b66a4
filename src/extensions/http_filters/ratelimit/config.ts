/** envoy.filters.http.ratelimit: a service decides which requests are too many. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { RateLimit, RateLimitPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.ratelimit.v3.d.ts";
import { GrpcClient } from "../../../grpc/client.ts";
import { compileGrpcService, grpcServiceHonours } from "../../../grpc/service.ts";
import { compileRateLimits } from "../../../router/rate-limit.ts";
import type { Extension } from "../../extension.ts";
import { vhRateLimits } from "../rate-limits.ts";
import { RateLimitFilter } from "./filter.ts";
import { compileSettings, type RouteSettings } from "./settings.ts";

const pkg = "envoy.extensions.filters.http.ratelimit.v3.";
const typeName = `${pkg}RateLimit`;
const perRoute = `${pkg}RateLimitPerRoute`;

export default {
  honours: {
    ...grpcServiceHonours,
    [typeName]: "*",
    // override_option: Envoy reads it and does nothing with it.
    [perRoute]: ["vh_rate_limits", "rate_limits", "domain", "override_option"],
    "envoy.config.ratelimit.v3.RateLimitServiceConfig": "*",
    "envoy.type.v3.HttpStatus": "*",
  },
  httpFilter: {
    compile(message, context) {
      if (!isMessage<RateLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileSettings(message, context);
      const grpcService = message.rateLimitService?.grpcService;
      const service = grpcService === undefined ? undefined : compileGrpcService(grpcService, context);
      if (service === undefined) return () => ({});
      const client = new GrpcClient(context.clusters, service);
      return () => new RateLimitFilter(settings, client);
    },
    compileRoute(message: AnyMessage, context): RouteSettings {
      if (!isMessage<RateLimitPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return {
        vhRateLimits: vhRateLimits[message.vhRateLimits] ?? "override",
        rateLimits: message.rateLimits.length === 0 ? undefined : compileRateLimits(message.rateLimits, context, true),
        domain: message.domain,
      };
    },
  },
} satisfies Extension;
