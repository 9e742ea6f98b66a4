/** A Listener message, compiled: addresses, filter chains, listener filters. Pure: nothing is bound. */

import { fingerprint } from "../config/fingerprint.ts";
import { durationMs } from "../config/message.ts";
import type { FilterChain, Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type {
  AccessLogger,
  CompileContext,
  DownstreamTransportSocket,
  Honours,
  ListenerFacts,
  ListenerFilterFactory,
  NetworkFilterFactory,
} from "../extensions/extension.ts";
import { SharedCount } from "../extensions/shared-cells.ts";
import { honours as accessLogHonours, compileAccessLogs, noAccessLog } from "../formatter/access-log.ts";
import { honours as cidrHonours } from "../matching/cidr.ts";
import { parseAddressMessage } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import type { StatsScope } from "../stats/stats.ts";
import { ExactBalance } from "./balance.ts";
import { compileFilterChainMatch, criteriaCombinations, criteriaKey, FilterChainIndex, honours as matchHonours } from "./filter-chain-match.ts";
import { nativeSockets } from "./native-sockets.ts";
import { compileSocketOptions, type SocketSettings, honours as socketHonours } from "./socket-options.ts";
import { type ListenerStats, listenerStats } from "./stats.ts";

export const honours: Honours = {
  ...matchHonours,
  ...socketHonours,
  ...accessLogHonours,
  ...cidrHonours,
  "envoy.config.listener.v3.Listener": [
    "name",
    "address",
    "additional_addresses",
    "stat_prefix",
    "filter_chains",
    "default_filter_chain",
    "per_connection_buffer_limit_bytes",
    "metadata",
    "drain_type",
    "listener_filters",
    "listener_filters_timeout",
    "continue_on_listener_filters_timeout",
    "socket_options",
    "traffic_direction",
    "enable_reuse_port",
    "access_log",
    "tcp_backlog_size",
    "bind_to_port",
    "max_connections_to_accept_per_socket_event",
    "tcp_keepalive",
    "ignore_global_conn_limit",
    // No action of the overload manager touches listeners.
    "bypass_overload_manager",
    "transparent",
    "freebind",
    "tcp_fast_open_queue_length",
    "connection_balance_config",
    // Only its default.
    "use_original_dst",
  ],
  "envoy.config.listener.v3.AdditionalAddress": ["address"],
  "envoy.config.listener.v3.Listener.ConnectionBalanceConfig": ["exact_balance"],
  "envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance": "*",
  "envoy.config.listener.v3.FilterChain": ["filter_chain_match", "filters", "metadata", "transport_socket", "transport_socket_connect_timeout", "name"],
  "envoy.config.listener.v3.Filter": ["name", "typed_config"],
  "envoy.config.listener.v3.ListenerFilter": ["name", "typed_config"],
  "envoy.config.core.v3.TransportSocket": ["name", "typed_config"],
  "envoy.config.core.v3.Address": ["socket_address", "pipe"],
  "envoy.config.core.v3.SocketAddress": ["protocol", "address", "port_value", "ipv4_compat"],
  "envoy.config.core.v3.Pipe": ["path", "mode"],
  "envoy.config.core.v3.Metadata": "*",
};

export interface CompiledChain {
  readonly name: string;
  /** Equal for equal configurations: an update leaves such a chain's connections alone. */
  readonly fingerprint: string;
  /** Set when the chain is no longer configured: its connections are to be wound up. */
  readonly drain: { retired: boolean };
  readonly filters: readonly NetworkFilterFactory[];
  readonly transportSocket: DownstreamTransportSocket | undefined;
  /** Milliseconds; how long the handshake may take. */
  readonly connectTimeoutMs: number;
  readonly metadata: Record<string, import("../config/message.ts").JsonObject>;
}

export interface CompiledListener {
  readonly name: string;
  /** Of everything but its filter chains. */
  readonly fingerprint: string;
  /** As stats name it: stat_prefix, or the address with "_" for ":". */
  readonly statPrefix: string;
  readonly addresses: readonly { readonly address: Address; readonly ipv4Compat: boolean; readonly mode: number }[];
  readonly chains: FilterChainIndex<CompiledChain>;
  readonly allChains: readonly CompiledChain[];
  readonly listenerFilters: readonly ListenerFilterFactory[];
  readonly listenerFiltersTimeoutMs: number;
  readonly continueOnTimeout: boolean;
  readonly perConnectionBufferLimitBytes: number;
  readonly backlog: number;
  /** How many connections one event of the listening socket may bring. */
  readonly acceptsPerEvent: number;
  readonly bind: boolean;
  readonly reusePort: boolean;
  readonly socket: SocketSettings;
  readonly stats: ListenerStats;
  /** Connections of this listener in all workers, and how many there may be at most: a runtime key says, Infinity where none does. */
  readonly connections: SharedCount;
  connectionLimit(): number;
  /** Neither counted nor limited with the connections of all listeners. */
  readonly ignoresGlobalLimit: boolean;
  /** Which worker takes a connection; undefined: the one that accepted it. */
  readonly balance: ExactBalance | undefined;
  readonly accessLog: AccessLogger;
  readonly logsAccess: boolean;
  readonly metadata: Record<string, import("../config/message.ts").JsonObject>;
  /** Set by whoever runs the listener: filters ask it whether connections are to be wound up. */
  readonly drain: { close: () => boolean };
}

/** Envoy's default for per_connection_buffer_limit_bytes: 1 MiB. */
const defaultBufferLimit = 1024 * 1024;
/** So many connections are accepted at once that those that are open wait for some milliseconds only; more are taken in the next turn. */
const maxAcceptsPerEvent = 128;
/** A handshake without transport_socket_connect_timeout is not waited for longer than this. */
const defaultConnectTimeoutMs = 60_000;
const directions = { 0: "UNSPECIFIED", 1: "INBOUND", 2: "OUTBOUND" } as const;

export function compileListener(message: Listener, context: CompileContext): CompiledListener {
  const at = parseAddressMessage(message.address);
  const socketAddress = message.address?.address.case === "socketAddress" ? message.address.address.value : undefined;
  if (message.address === undefined)
    context.report(message, "address", {
      code: "OR3020",
      text: `error adding listener named '${message.name}': address is necessary`,
      hint: "give it address.socket_address or address.pipe",
    });
  else if (at === undefined && socketAddress !== undefined && socketAddress.address !== "") {
    // An empty one, or none, has the loader's finding.
    const text = socketAddress.address;
    context.report(socketAddress, "address", {
      code: "OR2111",
      text: `malformed IP address: ${text}`,
      hint: "a listener binds an IP address: 0.0.0.0, 127.0.0.1, ::",
    });
  }
  if (socketAddress?.protocol === 1)
    context.report(socketAddress, "protocol", { code: "OR4003", text: "UDP listeners are not supported yet", hint: "use protocol TCP" });
  if (message.useOriginalDst === true)
    context.report(message, "use_original_dst", {
      code: "OR4003",
      text: "use_original_dst is not supported",
      hint: "with the original_dst listener filter the filter chains of this listener can match the original destination",
    });
  const statPrefix = message.statPrefix !== "" ? message.statPrefix : (at?.text ?? "").replaceAll(":", "_");
  const scope = context.stats.scope(`listener.${statPrefix}.`);
  const drain = { close: () => false };
  const metadata = message.metadata?.filterMetadata ?? {};
  const limit = message.perConnectionBufferLimitBytes ?? defaultBufferLimit;
  const facts = (isTls: boolean, chainDrain: CompiledChain["drain"]): ListenerFacts => ({
    name: message.name,
    statPrefix,
    direction: directions[message.trafficDirection],
    perConnectionBufferLimitBytes: limit,
    metadata,
    isTls,
    drainClose: () => chainDrain.retired || drain.close(),
  });
  const compileChain = (chain: FilterChain): CompiledChain => compileFilterChain(chain, context, scope, facts);
  const seen = new Map<string, string>();
  const taken = new Set<string>();
  const entries = message.filterChains.map((chain) => {
    const criteria = compileFilterChainMatch(chain.filterChainMatch, context);
    const key = criteriaKey(criteria);
    const twin = seen.get(key);
    if (twin !== undefined) {
      context.report(chain, "filter_chain_match", {
        code: "OR3022",
        text: `error adding listener '${at?.text ?? message.name}': filter chain '${chain.name}' has the same matching rules defined as '${twin}'`,
        hint: "multiple filter chains with the same matching rules are defined: give each its own filter_chain_match",
      });
    } else {
      const combinations = criteriaCombinations(criteria);
      if (new Set(combinations).size < combinations.length || combinations.some((one) => taken.has(one))) {
        context.report(chain, "filter_chain_match", {
          code: "OR3022",
          text: `error adding listener '${at?.text ?? message.name}': multiple filter chains with overlapping matching rules are defined`,
          hint: "no two chains may match the same value of every criterion, and no value may be listed twice",
        });
      }
      for (const one of combinations) taken.add(one);
    }
    seen.set(key, chain.name);
    return { criteria, chain: compileChain(chain) };
  });
  if (entries.length === 0 && message.defaultFilterChain === undefined && socketAddress?.protocol !== 1) {
    context.report(message, "filter_chains", {
      code: "OR3023",
      text: `error adding listener '${at?.text ?? message.name}': no filter chains specified`,
      hint: "add a filter chain",
    });
  }
  const accessLog = compileAccessLogs(message.accessLog, context);
  const otherwise = message.defaultFilterChain === undefined ? undefined : compileChain(message.defaultFilterChain);
  const limitKey = `envoy.resource_limits.listener.${message.name}.connection_limit`;
  return {
    name: message.name,
    fingerprint: fingerprint({ ...message, filterChains: [], defaultFilterChain: undefined, $cells: undefined }),
    statPrefix,
    addresses: compileAddresses(message, context),
    chains: new FilterChainIndex(entries, otherwise),
    allChains: [...entries.map(({ chain }) => chain), ...(otherwise === undefined ? [] : [otherwise])],
    listenerFilters: compileListenerFilters(message, context, scope),
    listenerFiltersTimeoutMs: durationMs(message.listenerFiltersTimeout, 15_000),
    continueOnTimeout: message.continueOnListenerFiltersTimeout,
    perConnectionBufferLimitBytes: limit,
    backlog: message.tcpBacklogSize ?? 4096,
    bind: message.bindToPort ?? true,
    acceptsPerEvent: Math.min(message.maxConnectionsToAcceptPerSocketEvent ?? maxAcceptsPerEvent, maxAcceptsPerEvent),
    reusePort: message.enableReusePort ?? true,
    socket: compileSocketOptions(message, context),
    stats: listenerStats(scope, context.workerIndex),
    connections: new SharedCount(message, context.options.concurrency, context.workerIndex),
    ignoresGlobalLimit: message.ignoreGlobalConnLimit,
    balance: compileBalance(message, context),
    connectionLimit: () => context.runtime.snapshot.integer(limitKey, Number.POSITIVE_INFINITY),
    accessLog,
    logsAccess: accessLog !== noAccessLog,
    metadata,
    drain,
  };
}

function compileBalance(message: Listener, context: CompileContext): ExactBalance | undefined {
  const type = message.connectionBalanceConfig?.balanceType;
  if (type?.case !== "exactBalance" || context.options.concurrency < 2) return undefined;
  if (nativeSockets() === undefined) {
    context.report(message, "connection_balance_config", {
      code: "OR4003",
      text: "exact_balance needs the optional package koffi, which is not installed",
      hint: "npm install koffi, or leave it to the kernel which worker accepts",
    });
    return undefined;
  }
  return new ExactBalance(type.value, context.options.concurrency, context.workerIndex);
}

/** The address and its siblings; what is no address was reported, or is now. */
function compileAddresses(message: Listener, context: CompileContext): CompiledListener["addresses"] {
  const addresses: { address: Address; ipv4Compat: boolean; mode: number }[] = [];
  for (const one of [message, ...message.additionalAddresses]) {
    const specifier = one.address?.address;
    const address = parseAddressMessage(one.address);
    if (address === undefined) {
      if (one !== message)
        context.report(one, "address", {
          code: "OR2111",
          text: `malformed IP address: ${specifier?.case === "socketAddress" ? specifier.value.address : ""}`,
          hint: "a listener binds an IP address: 0.0.0.0, 127.0.0.1, ::",
        });
      continue;
    }
    if (one !== message && address.kind === "ip" && address.port === 0)
      context.report(one, "address", { code: "OR4003", text: "an additional address needs a port", hint: "port 0 is only for the first address" });
    addresses.push({
      address,
      ipv4Compat: specifier?.case === "socketAddress" && specifier.value.ipv4Compat,
      mode: specifier?.case === "pipe" ? specifier.value.mode : 0,
    });
  }
  return addresses;
}

function compileFilterChain(
  chain: FilterChain,
  context: CompileContext,
  scope: StatsScope,
  facts: (isTls: boolean, drain: CompiledChain["drain"]) => ListenerFacts,
): CompiledChain {
  const drain = { retired: false };
  let transportSocket: DownstreamTransportSocket | undefined;
  if (chain.transportSocket !== undefined) {
    const { configType, name } = chain.transportSocket;
    const extension = context.extension("envoy.transport_sockets.downstream", configType.value, chain.transportSocket, "typed_config", name);
    if (extension !== undefined && configType.value !== undefined) {
      if (extension.transportSocket?.downstream === undefined)
        context.report(chain.transportSocket, "typed_config", {
          code: "OR3024",
          text: `transport socket '${name}' (${configType.value.$typeName}) is not for listeners`,
          hint: "a listener needs a DownstreamTlsContext",
        });
      else transportSocket = extension.transportSocket.downstream(configType.value, context, { listenerScope: scope });
    }
  }
  const filters: NetworkFilterFactory[] = [];
  const listener = facts(transportSocket?.tls !== undefined, drain);
  chain.filters.forEach((filter, index) => {
    const { configType } = filter;
    if (configType.case === "configDiscovery") return; // refused by `honours`
    const extension = context.extension("envoy.filters.network", configType.value, filter, "typed_config", filter.name);
    if (extension?.networkFilter === undefined || configType.value === undefined) return;
    const last = index === chain.filters.length - 1;
    const terminal = extension.networkFilter.terminal === true;
    if (terminal && !last)
      context.report(filter, "name", {
        code: "OR3011",
        text: `terminal filter named '${filter.name}' must be the last filter in its chain`,
        hint: "move it to the end",
      });
    if (!terminal && last)
      context.report(filter, "name", {
        code: "OR3011",
        text: `non-terminal filter named '${filter.name}' must not be the last filter in a network filter chain`,
        hint: "end the chain with http_connection_manager or tcp_proxy",
      });
    filters.push(extension.networkFilter.compile(configType.value, context, { listenerScope: scope, listener }));
  });
  return {
    name: chain.name,
    fingerprint: fingerprint(chain),
    drain,
    filters,
    transportSocket,
    connectTimeoutMs: durationMs(chain.transportSocketConnectTimeout, defaultConnectTimeoutMs),
    metadata: chain.metadata?.filterMetadata ?? {},
  };
}

function compileListenerFilters(message: Listener, context: CompileContext, scope: StatsScope): ListenerFilterFactory[] {
  const factories: ListenerFilterFactory[] = [];
  for (const filter of message.listenerFilters) {
    const { configType } = filter;
    if (configType.case === "configDiscovery") continue;
    const extension = context.extension("envoy.filters.listener", configType.value, filter, "typed_config", filter.name);
    if (extension?.listenerFilter === undefined || configType.value === undefined) continue;
    factories.push(extension.listenerFilter.compile(configType.value, context, { listenerScope: scope }));
  }
  return factories;
}
