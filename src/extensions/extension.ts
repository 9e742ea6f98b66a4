/**
 * What an extension is: its one row in registry.ts, and the module that row loads.
 *
 * Life cycle of settings: check (shape and PGV, by the loader) -> compile (pure: message to settings and closures, reports findings; runs on
 * the main thread to validate, and again in each worker) -> create (per stream, connection or worker).
 */

import type { Finding } from "../config/finding.ts";
import type { AnyMessage } from "../config/message.ts";
import type { Address, BindConfig } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { SdsSecretConfig, Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { FormatContext } from "../formatter/formatter.ts";
import type { HttpFilterFactory } from "../http/filter.ts";
import type { RequestHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { LogSink } from "../log/log.ts";
import type { Connection, ReadFilter } from "../net/connection.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";
import type { ResourceMonitorExtension } from "../overload/compile.ts";
import type { MemoryHolder, OverloadState } from "../overload/thread-state.ts";
import type { RouteTables } from "../router/route-tables.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { StatsSinkExtension } from "../stats/sinks/sink.ts";
import type { StatsScope, StatsStore } from "../stats/stats.ts";
import type { ThreadLocalClusters } from "../upstream/upstream.ts";

export type ExtensionCategory =
  | "envoy.filters.http"
  | "envoy.filters.network"
  | "envoy.filters.listener"
  | "envoy.transport_sockets.downstream"
  | "envoy.transport_sockets.upstream"
  | "envoy.access_loggers"
  | "envoy.access_loggers.extension_filters"
  | "envoy.formatter"
  | "envoy.http.stateful_header_formatters"
  | "envoy.matching.http.input"
  | "envoy.matching.input_matchers"
  | "envoy.matching.action"
  | "envoy.path.match"
  | "envoy.path.rewrite"
  | "envoy.retry_host_predicates"
  | "envoy.retry_priorities"
  | "envoy.internal_redirect_predicates"
  | "envoy.request_id"
  | "envoy.http.original_ip_detection"
  | "envoy.http.early_header_mutation"
  | "envoy.upstream_options"
  | "envoy.clusters"
  | "envoy.load_balancing_policies"
  | "envoy.health_checkers"
  | "envoy.tracers"
  | "envoy.stats_sinks"
  | "envoy.resource_monitors"
  | "envoy.network.dns_resolver"
  | "envoy.rate_limit_descriptors"
  | "envoy.compression.compressor"
  | "envoy.compression.decompressor"
  | "envoy.route.early_data_policy"
  | "envoy.http.custom_response"
  | "envoy.bootstrap"
  | "envoy.string_matcher"
  | "envoy.matching.network.input"
  | "envoy.regex_engines"
  | "envoy.upstreams"
  | "envoy.connection_balance"
  | "envoy.config_mux"
  | "envoy.router.cluster_specifier_plugin"
  | "envoy.other";

/** One row of the table: everything known of an extension without loading its code. */
export interface ExtensionRow {
  /** Envoy's canonical name: "envoy.filters.http.buffer". */
  readonly name: string;
  readonly category: ExtensionCategory;
  /** Full names of the messages that configure it (typed_config and per-route). The first is the main one. */
  readonly messages: readonly string[];
  readonly load: () => Promise<{ readonly default: Extension }>;
}

/** Which fields of a message this module acts on, by proto field name; "*" stands for all. Any other field that is set is refused at load. */
export type Honours = { readonly [messageTypeName: string]: readonly string[] | "*" };

/** What compiling needs to know of the rest of the configuration and of the thread. */
export interface CompileContext {
  /** On the main thread: findings are collected, nothing is ever served. In a worker: the configuration is already known to be good. */
  readonly validating: boolean;
  /** Adds a finding at a field of a message (proto field name; undefined: the message itself). Positions come from the loader. */
  report(message: object, field: string | undefined, finding: Pick<Finding, "code" | "text"> & Partial<Finding>): void;
  /** Contents of a DataSource file: read on the main thread, carried along to workers. undefined (and a finding) when it cannot be read. */
  readFile(path: string, message: object, field: string): Buffer | undefined;
  hasCluster(name: string): boolean;
  /** A secret that a TLS context names; undefined: there is none, or it has not come yet. */
  secret?(config: SdsSecretConfig): Secret | undefined;
  /** Whether the server was told to fail its health checks (/healthcheck/fail); absent on the main thread. */
  readonly health?: { readonly healthFailed: boolean } | undefined;
  /** Route configurations that discovery brings; absent where nothing is served. */
  readonly routes?: RouteTables | undefined;
  /** The cluster that was probably meant, for a hint. */
  nearestCluster?(name: string): string | undefined;
  /** The loaded module of an extension message; undefined (and a finding) where none is known in that category. */
  extension<C extends ExtensionCategory>(category: C, message: AnyMessage | undefined, at: object, field: string, name?: string): Extension | undefined;
  readonly stats: StatsStore;
  readonly runtime: Runtime;
  readonly timers: TimerWheel;
  /** Absent where there is no overload manager, and on the main thread, whose admin interface always answers. */
  readonly overload?: OverloadState | undefined;
  readonly clusters: ThreadLocalClusters;
  /** bootstrap.node with command-line overrides. */
  readonly node: { readonly id: string; readonly cluster: string; readonly zone: string };
  /** Bootstrap.header_prefix: "x-envoy" unless set. */
  readonly headerPrefix: string;
  readonly options: { readonly fileFlushIntervalMs: number; readonly fileFlushMinBytes: number; readonly concurrency: number };
  /** What clusters take of the bootstrap where they say nothing themselves. */
  readonly clusterDefaults?: ClusterDefaults | undefined;
  /** Opens a file for appending by the main thread and writes through it (access logs); undefined (and a finding) if it cannot be opened. */
  openLog(target: LogTarget, at: object, field: string): LogWriter | undefined;
  /** 0..n-1 in workers; -1 on the main thread. */
  readonly workerIndex: number;
}

export interface ClusterDefaults {
  readonly upstreamBindConfig: BindConfig | undefined;
  readonly dnsResolver: AnyMessage | undefined;
  /** The older form of the same. */
  readonly dnsResolvers: readonly Address[];
}

export type LogTarget = { readonly kind: "file"; readonly path: string } | { readonly kind: "stdout" } | { readonly kind: "stderr" };
export interface LogWriter {
  /** Appends text as it is (latin1 code units are bytes unless `utf8`). Never blocks. */
  write(text: string): void;
}

/** Where a message stands that is prepared. */
export interface PreparePlace {
  readonly isMain: boolean;
  /** The file that it was read from, on the main thread. */
  readonly file: string | undefined;
}

/** What the extensions of each category must offer. An extension object has `honours` and the one member of its category. */
export interface Extension {
  readonly honours: Honours;
  /**
   * Work that takes time and has to be done before compiling: called for each message of the extension's types, on every thread, the main thread
   * first. What it leaves in the message goes with it to the workers. Compiling reports what went wrong.
   */
  prepare?(message: AnyMessage, at: PreparePlace): Promise<void>;
  readonly httpFilter?: HttpFilterExtension;
  readonly networkFilter?: NetworkFilterExtension;
  readonly listenerFilter?: ListenerFilterExtension;
  readonly accessLogger?: AccessLoggerExtension;
  readonly accessLogFilter?: { compile(message: AnyMessage, context: CompileContext): (context: FormatContext) => boolean };
  readonly transportSocket?: TransportSocketExtension;
  readonly clusterSpecifier?: ClusterSpecifierExtension;
  readonly formatter?: { compile(message: AnyMessage, context: CompileContext): FormatterCommandParser };
  readonly statsSink?: StatsSinkExtension;
  readonly resourceMonitor?: ResourceMonitorExtension;
  /** Members of smaller categories; each category documents its own in the module that asks for it. */
  readonly other?: Readonly<Record<string, unknown>>;
}

export interface HttpFilterExtension {
  /** A terminal filter (router) must be last, and only it may be. */
  readonly terminal?: boolean;
  /** `statPrefix`: "http.<stat_prefix>." of the connection manager. `name`: the filter's name in the chain (key of per-route settings). */
  compile(message: AnyMessage, context: CompileContext, scope: HttpFilterScope): HttpFilterFactory;
  /** typed_per_filter_config of this filter to settings, read back through `callbacks.routeConfig()`. */
  compileRoute?(message: AnyMessage, context: CompileContext): unknown;
}
export interface HttpFilterScope {
  readonly name: string;
  readonly statPrefix: string;
  readonly scope: StatsScope;
}

export interface NetworkFilterExtension {
  readonly terminal?: boolean;
  compile(message: AnyMessage, context: CompileContext, scope: NetworkFilterScope): NetworkFilterFactory;
}
export interface NetworkFilterScope {
  /** listener.<address>. */
  readonly listenerScope: StatsScope;
  /** Shared facts of the listener this chain belongs to. */
  readonly listener: ListenerFacts;
}
/** What filters may know about their listener. */
export interface ListenerFacts {
  readonly name: string;
  readonly statPrefix: string;
  readonly direction: "UNSPECIFIED" | "INBOUND" | "OUTBOUND";
  readonly perConnectionBufferLimitBytes: number;
  readonly metadata: Record<string, import("../config/message.ts").JsonObject>;
  readonly isTls: boolean;
  /** Asked before each response and at accept: whether connections should be wound up now (drain manager). */
  drainClose(): boolean;
}
export type NetworkFilterFactory = () => NetworkFilter;
export interface NetworkFilter {
  /** Once, when the connection is open (after TLS). `next` starts the filter behind. */
  onNewConnection?(callbacks: NetworkFilterCallbacks): "continue" | "stop";
  onData?(data: Buffer, endStream: boolean): "continue" | "stop";
  /** Data on its way to the client. */
  onWrite?(data: Buffer, endStream: boolean): "continue" | "stop";
  /** Its streams with what they hold in memory, for the overload manager. */
  memoryHolders?(): MemoryHolder[];
  onDestroy?(): void;
}
export interface NetworkFilterCallbacks {
  readonly connection: Connection;
  readonly info: StreamInfo;
  /** After a stop: hand data on to the filter behind this one. */
  continueReading(): void;
  injectReadData(data: Buffer, endStream: boolean): void;
  readonly terminalReadFilter: ReadFilter | undefined;
}

export interface ListenerFilterExtension {
  compile(message: AnyMessage, context: CompileContext, scope: { readonly listenerScope: StatsScope }): ListenerFilterFactory;
}
export type ListenerFilterFactory = () => ListenerFilter;
/** Looks at the first bytes of an accepted connection before a filter chain is chosen. */
export interface ListenerFilter {
  /** Bytes so far (peeked). "need_more": call again; "done": next filter; "close": drop. `consume` takes bytes away from the stream. */
  inspect(peeked: Buffer, socket: ListenerFilterSocket): "need_more" | "done" | "close";
  /** How many bytes it must be able to peek; 0: called once without bytes. */
  readonly maxReadBytes: number;
}
export interface ListenerFilterSocket {
  detectedTransportProtocol: string;
  requestedServerName: string;
  requestedApplicationProtocols: readonly string[];
  ja3: string;
  ja4: string;
  remoteAddress: import("../net/connection.ts").Address;
  localAddress: import("../net/connection.ts").Address;
  consume(bytes: number): void;
  /** The system's number of the socket, for filters that ask the kernel; -1 where there is none. */
  readonly descriptor?: number;
  readonly info: StreamInfo;
}

/** TLS, or nothing, under a connection. A side that the extension cannot serve is absent. */
export interface TransportSocketExtension {
  downstream?(message: AnyMessage, context: CompileContext, scope: { readonly listenerScope: StatsScope }): DownstreamTransportSocket | undefined;
  upstream?(
    message: AnyMessage,
    context: CompileContext,
    scope: { readonly clusterScope: StatsScope; readonly autoSanValidation?: boolean },
  ): UpstreamTransportSocket | undefined;
}
export interface DownstreamTransportSocket {
  /** undefined: plain bytes. */
  readonly tls: import("node:tls").TLSSocketOptions | undefined;
  /** Options for one connection, by what its client asks for; `tls` where absent. */
  optionsFor?(hello: import("../net/tls/client-hello.ts").ClientHello | undefined): import("node:tls").TLSSocketOptions;
  /** After the handshake: why the peer is refused, or undefined; counts the socket's statistics. */
  accept?(socket: import("node:tls").TLSSocket, hello?: import("../net/tls/client-hello.ts").ClientHello): string | undefined;
  /** The handshake failed. */
  onError?(error: Error | undefined): void;
}
export interface UpstreamTransportSocket {
  /** Options for one connection; `serverName`: what the cluster or the request wants in SNI. undefined: plain bytes. */
  options(host: { readonly hostname: string; readonly sni: string | undefined }): import("node:tls").ConnectionOptions | undefined;
  /** After the handshake: why the peer is refused, or undefined; counts the socket's statistics. */
  accept?(socket: import("node:tls").TLSSocket): string | undefined;
  onError?(error: Error | undefined): void;
}

export interface ClusterSpecifierExtension {
  /** The name of the cluster for a request. Asked whenever the request's route is chosen. */
  compile(message: AnyMessage, context: CompileContext): (headers: RequestHeaders, info: StreamInfo) => string;
}

export interface AccessLoggerExtension {
  compile(message: AnyMessage, context: CompileContext): AccessLogger;
}
export interface AccessLogger {
  log(context: FormatContext): void;
}
/** Parses an operator that core does not know: undefined when it is not this formatter's either. */
export type FormatterCommandParser = (
  operator: string,
  argument: string,
  maxLength: number | undefined,
) => import("../formatter/formatter.ts").Operator | undefined;

export type { LogSink };
