/** health_checks of a cluster, compiled. Times in milliseconds. */
import type { JsonObject } from "../../config/message.ts";
import type { LogWriter } from "../../extensions/extension.ts";
import type { StringMatcher } from "../../matching/string-matcher.ts";
import type { HeaderMutation } from "../../router/header-mutation.ts";
import type { Counter } from "../../stats/stats.ts";

/** From `start` on, below `end`. */
export interface StatusRange {
  readonly start: number;
  readonly end: number;
}

export interface HttpCheckSettings {
  readonly kind: "http";
  readonly http2: boolean;
  readonly method: string;
  readonly path: string;
  /** Of requests to hosts that have no name of their own for this. */
  readonly host: string;
  readonly body: Buffer | undefined;
  /** Found in the body in this order, anything between. */
  readonly receive: readonly Buffer[];
  /** How much of a body is looked at; 0: all. */
  readonly responseBufferBytes: number;
  readonly expected: readonly StatusRange[];
  readonly retriable: readonly StatusRange[];
  readonly headers: HeaderMutation | undefined;
  /** What x-envoy-upstream-healthchecked-cluster of the answer must be. */
  readonly serviceName: StringMatcher | undefined;
  /** Lower case names of the headers that mean something. */
  readonly names: { readonly immediateFail: string; readonly degraded: string; readonly checkedCluster: string };
}

/** grpc.health.v1.Health/Check. */
export interface GrpcCheckSettings {
  readonly kind: "grpc";
  /** A HealthCheckRequest. */
  readonly request: Buffer;
  /** Of requests to hosts that have no name of their own for this. */
  readonly authority: string;
  readonly metadata: HeaderMutation | undefined;
}

export interface TcpCheckSettings {
  readonly kind: "tcp";
  readonly send: Buffer | undefined;
  readonly receive: readonly Buffer[];
  /** A PROXY protocol header goes first. */
  readonly proxyProtocol: 1 | 2 | undefined;
}

/** A command of Redis, over a connection that stays open. */
export interface RedisCheckSettings {
  readonly kind: "redis";
  readonly command: Buffer;
  /** The line of the answer that is good: "+PONG", ":0". */
  readonly answer: string;
  /** Counts answers to EXISTS that are not good; undefined: PING is asked. */
  readonly existsFailure: Counter | undefined;
}

/** A datagram, and the one that answers it. */
export interface UdpCheckSettings {
  readonly kind: "udp";
  readonly send: Buffer;
  readonly receive: Buffer;
}

export interface HealthCheckSettings {
  /** "" where the cluster has one check without a name. */
  readonly name: string;
  readonly check: HttpCheckSettings | GrpcCheckSettings | TcpCheckSettings | RedisCheckSettings | UdpCheckSettings;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly noTrafficIntervalMs: number;
  readonly noTrafficHealthyIntervalMs: number;
  readonly unhealthyIntervalMs: number;
  readonly unhealthyEdgeIntervalMs: number;
  readonly healthyEdgeIntervalMs: number;
  readonly initialJitterMs: number;
  readonly intervalJitterMs: number;
  readonly intervalJitterPercent: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  readonly reuseConnection: boolean;
  readonly alwaysLogFailures: boolean;
  readonly alwaysLogSuccess: boolean;
  /** Only on the thread that checks. */
  readonly eventLogs: readonly LogWriter[];
  readonly alpn: readonly string[];
  /** Chooses the transport socket instead of the host's metadata. */
  readonly transportSocketMatch: JsonObject | undefined;
}
