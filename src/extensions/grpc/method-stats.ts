/** Statistics of gRPC calls by method, below the cluster: cluster.<name>.grpc.<service>.<method>.*, as the filters of Envoy that know gRPC count them. */
import type { HeaderMap } from "../../http/header-map.ts";
import type { StatsScope } from "../../stats/stats.ts";

/** Methods come from clients: of each cluster and prefix so many are counted by name. */
const maxMethods = 2000;

const methods = new WeakMap<StatsScope, Map<string, MethodStats>>();

export class MethodStats {
  readonly #scope: StatsScope;
  constructor(scope: StatsScope) {
    this.#scope = scope;
  }
  /** Counts the outcome of a call where head or trailers tell it. */
  chargeStatus(headers: HeaderMap): void {
    const status = headers.get("grpc-status");
    if (status === undefined) return;
    this.#scope.counter(/^\d{1,3}$/.test(status) ? String(Number(status)) : "unknown").inc();
    this.#scope.counter("success").add(status === "0" ? 1 : 0);
    this.#scope.counter("failure").add(status === "0" ? 0 : 1);
    this.#scope.counter("total").inc();
  }
  chargeRequestMessages(count: number): void {
    this.#scope.counter("request_message_count").add(count);
  }
  chargeResponseMessages(count: number): void {
    this.#scope.counter("response_message_count").add(count);
  }
  chargeUpstreamTime(ms: number): void {
    this.#scope.histogram("upstream_rq_time", "ms").record(ms);
  }
}

/** "grpc" or "grpc-web"; without a method, of all calls. */
export function methodStats(cluster: StatsScope, protocol: string, method: { readonly service: string; readonly method: string } | undefined): MethodStats {
  let known = methods.get(cluster);
  if (known === undefined) methods.set(cluster, (known = new Map()));
  const name = method === undefined ? `${protocol}.` : `${protocol}.${method.service}.${method.method}.`;
  let stats = known.get(name);
  if (stats === undefined) {
    stats = new MethodStats(cluster.scope(known.size >= maxMethods ? `${protocol}.` : name));
    if (known.size < maxMethods) known.set(name, stats);
  }
  return stats;
}

/** Service and method of a path, "/service/method"; undefined: it is none of a call. */
export function methodOf(path: string | undefined): { readonly service: string; readonly method: string } | undefined {
  if (path === undefined) return undefined;
  const question = path.indexOf("?");
  const parts = (question < 0 ? path : path.slice(0, question)).split("/");
  return parts.length === 3 && parts[0] === "" && parts[1] !== "" && parts[2] !== "" ? { service: parts[1], method: parts[2] } : undefined;
}
