/** The fields the router reads and writes, under the prefix of Bootstrap.header_prefix. */
export interface RouterHeaderNames {
  readonly prefix: string;
  readonly altStatName: string;
  readonly attemptCount: string;
  readonly degraded: string;
  readonly dropOverload: string;
  readonly expectedTimeout: string;
  readonly hedgeOnPerTryTimeout: string;
  readonly immediateHealthCheckFail: string;
  readonly internal: string;
  readonly isTimeoutRetry: string;
  readonly maxRetries: string;
  readonly originalUrl: string;
  readonly overloaded: string;
  readonly perTryTimeout: string;
  readonly rateLimited: string;
  readonly retriableHeaderNames: string;
  readonly retriableStatusCodes: string;
  readonly retryGrpcOn: string;
  readonly retryOn: string;
  readonly serviceTime: string;
  readonly streamDuration: string;
  readonly timeout: string;
  readonly timeoutAltResponse: string;
  readonly unconditionalDropOverload: string;
  readonly upstreamCanary: string;
}

export function routerHeaderNames(prefix: string): RouterHeaderNames {
  return {
    prefix,
    altStatName: `${prefix}-upstream-alt-stat-name`,
    attemptCount: `${prefix}-attempt-count`,
    degraded: `${prefix}-degraded`,
    dropOverload: `${prefix}-drop-overload`,
    expectedTimeout: `${prefix}-expected-rq-timeout-ms`,
    hedgeOnPerTryTimeout: `${prefix}-hedge-on-per-try-timeout`,
    immediateHealthCheckFail: `${prefix}-immediate-health-check-fail`,
    internal: `${prefix}-internal`,
    isTimeoutRetry: `${prefix}-is-timeout-retry`,
    maxRetries: `${prefix}-max-retries`,
    originalUrl: `${prefix}-original-url`,
    overloaded: `${prefix}-overloaded`,
    perTryTimeout: `${prefix}-upstream-rq-per-try-timeout-ms`,
    rateLimited: `${prefix}-ratelimited`,
    retriableHeaderNames: `${prefix}-retriable-header-names`,
    retriableStatusCodes: `${prefix}-retriable-status-codes`,
    retryGrpcOn: `${prefix}-retry-grpc-on`,
    retryOn: `${prefix}-retry-on`,
    serviceTime: `${prefix}-upstream-service-time`,
    streamDuration: `${prefix}-upstream-stream-duration-ms`,
    timeout: `${prefix}-upstream-rq-timeout-ms`,
    timeoutAltResponse: `${prefix}-upstream-rq-timeout-alt-response`,
    unconditionalDropOverload: `${prefix}-unconditional-drop-overload`,
    upstreamCanary: `${prefix}-upstream-canary`,
  };
}
