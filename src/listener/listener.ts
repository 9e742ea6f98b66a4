/** A listener on one worker: accepts, chooses the filter chain, starts its filters. Envoy's ActiveTcpListener. */
import { type Server, Socket } from "node:net";
import { StreamInfo } from "../http/stream-info.ts";
import { getLogger } from "../log/log.ts";
import { anonymousPipe, ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import { acceptPlain, acceptTls, type SocketConnection } from "../net/socket-connection.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";
import { type MemoryHolder, noOverload, type OverloadState } from "../overload/thread-state.ts";
import type { StatsStore } from "../stats/stats.ts";
import { type InspectedSocket, inspect } from "./accept.ts";
import type { AcceptQueue } from "./accept-queue.ts";
import { ActiveConnection, ConnectionLog, countClosed, countOpened } from "./active-connection.ts";
import { HandoverChannel } from "./balance.ts";
import { bind } from "./bind.ts";
import type { CompiledChain, CompiledListener } from "./compile.ts";
import type { GlobalLimit } from "./global-limit.ts";
import { nativeSockets } from "./native-sockets.ts";
import { tlsFailure } from "./tls-failure.ts";

const log = getLogger("conn_handler");

export interface ListenerEnvironment {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  /** -1: the main thread (admin). */
  readonly workerIndex: number;
  /** Whether connections are to be wound up now. */
  drainClose(): boolean;
  /** How long connections of filter chains that an update takes away may go on, milliseconds. */
  readonly drainTimeMs: number;
  /** Absent: the admin interface, which always answers. */
  readonly overload?: OverloadState;
  /** The limit over all listeners, where this one is under it. */
  readonly globalLimit?: GlobalLimit;
}

export class WorkerListener {
  #compiled: CompiledListener;
  readonly #environment: ListenerEnvironment;
  #servers: { readonly server: Server; readonly queue: AcceptQueue }[] = [];
  /** Sockets on which listener filters or a handshake are at work. */
  readonly #pending = new Set<Socket>();
  readonly #connections = new Set<ActiveConnection>();
  #closed = false;
  #accepting = false;
  #draining = false;
  readonly #drainClose = (): boolean => this.#draining || this.#environment.drainClose();
  #handovers: HandoverChannel | undefined = undefined;
  /** Connections that wait until the overload manager lets connections in again. */
  #held: Socket[] = [];
  readonly #overload: OverloadState;

  constructor(compiled: CompiledListener, environment: ListenerEnvironment) {
    this.#environment = environment;
    this.#overload = environment.overload ?? noOverload;
    this.#compiled = compiled;
    compiled.drain.close = this.#drainClose;
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Binds all addresses; `port` replaces a configured port 0. The texts of what was bound. Rejects with the system's error (`code`, `address`). */
  async listen(options: { readonly reusePort: boolean; readonly port: number | undefined }): Promise<string[]> {
    const bound: string[] = [];
    for (const { address, ipv4Compat, mode } of this.#compiled.addresses) {
      if (!this.#compiled.bind) continue;
      const shared = options.reusePort && this.#compiled.reusePort && address.kind === "ip";
      // What cannot be shared belongs to the first worker.
      if (!shared && this.#environment.workerIndex > 0) continue;
      const { server, queue, text } = await bind(
        address,
        { shared, port: options.port, ipv4Compat, mode, backlog: this.#compiled.backlog, socket: this.#compiled.socket },
        (accepted, from) => this.#acceptAll(accepted, from),
      );
      server.on("error", (error) => log.error(`listener '${this.#compiled.name}': ${error.message}`));
      if (this.#closed) server.close();
      this.#servers.push({ server, queue });
      bound.push(text);
    }
    this.#accepting = true;
    this.#joinBalance();
    return bound;
  }

  /** Other workers may hand connections over from now on. */
  #joinBalance(): void {
    const { balance, name } = this.#compiled;
    if (balance === undefined || this.#closed) return;
    this.#handovers ??= new HandoverChannel(this.#environment.workerIndex, name, (fd) => this.#receive(fd));
    balance.join();
  }

  /** Lets nobody new in; who had connected already is still served, unless this follows `close`. */
  stopAccepting(): void {
    for (const { server, queue } of this.#servers) {
      if (!this.#closed) queue.takeAll((fd) => this.#accept(openSocket(fd)));
      server.close();
    }
    this.#servers = [];
    this.#accepting = false;
    this.#compiled.balance?.leave();
  }

  /** How many wait until the overload manager lets them in. */
  get heldCount(): number {
    return this.#held.length;
  }

  /** Lets those in who had to wait, if that is over. */
  acceptHeld(): void {
    const held = this.#held;
    this.#held = [];
    for (const socket of held) if (!socket.destroyed) this.#accept(socket);
  }

  /** What streams on its connections hold in memory. */
  memoryHolders(): MemoryHolder[] {
    return [...this.#connections].flatMap((active) => active.memoryHolders());
  }

  /** From now on every connection ends behind its next response. */
  drain(): void {
    this.#draining = true;
  }

  /** Ends at once, with all connections. */
  close(): void {
    this.#closed = true;
    this.stopAccepting();
    this.#handovers?.close();
    for (const socket of [...this.#pending, ...this.#held]) socket.destroy();
    this.#held = [];
    for (const active of [...this.#connections]) active.connection.close("no_flush", "listener closed");
  }

  /**
   * New connections use `compiled`. Of those that are open, the ones on filter chains that did not change go on untouched; the others stay on
   * their old chain, are wound up, and closed when the drain time is over.
   */
  update(compiled: CompiledListener): void {
    const before = this.#compiled;
    compiled.drain.close = this.#drainClose;
    this.#compiled = compiled;
    before.balance?.leave();
    if (this.#accepting) this.#joinBalance();
    const kept = new Set(compiled.allChains.map((chain) => chain.fingerprint));
    // What holds for the whole listener holds for every chain. A connection may be older than the configuration before this one.
    const goes = (on: CompiledListener, chain: CompiledChain): boolean => on.fingerprint !== compiled.fingerprint || !kept.has(chain.fingerprint);
    const gone = new Set(before.allChains.filter((chain) => goes(before, chain)));
    for (const { listener, chain } of this.#connections) if (goes(listener, chain)) gone.add(chain);
    for (const chain of gone) chain.drain.retired = true;
    if (gone.size === 0) return;
    const end = this.#environment.timers.createTimer(() => {
      for (const active of [...this.#connections]) if (gone.has(active.chain)) active.connection.close("no_flush", "filter chain removed");
    });
    end.enable(this.#environment.drainTimeMs);
  }

  // ---- accepting ---------------------------------------------------------------------------------------------------------

  /** The event loop accepted a connection: with it come those that wait behind it. */
  #acceptAll(socket: Socket, queue: AcceptQueue): void {
    const { acceptsPerEvent, stats } = this.#compiled;
    this.#accept(socket);
    const more = queue.takeRest(acceptsPerEvent - 1, (fd) => this.#accept(openSocket(fd)));
    stats.connections_accepted_per_socket_event.record(more + 1);
  }

  #accept(socket: Socket): void {
    if (this.#overload.stopsConnections && !this.#closed) {
      // They would wait in the kernel if Node let a socket listen without accepting; so they wait here, and as many.
      if (this.#held.length < this.#compiled.backlog) this.#held.push(socket);
      else socket.destroy();
      return;
    }
    if (this.#overload.rejectsConnections || this.#overload.sheds("envoy.load_shed_points.tcp_listener_accept")) {
      this.#compiled.stats.downstream_cx_overload_reject.inc();
      socket.destroy();
      return;
    }
    const { balance } = this.#compiled;
    if (balance !== undefined) {
      const worker = balance.assign(socket.remoteAddress !== undefined);
      if (worker !== this.#environment.workerIndex) {
        if (this.#handOver(socket, worker)) return;
        balance.takeBack(worker);
      }
    }
    this.#take(socket);
  }

  /** Gives a connection to another worker; false where the system does not let us. */
  #handOver(socket: Socket, worker: number): boolean {
    const native = nativeSockets();
    const fd = (socket as unknown as { readonly _handle: { readonly fd: number } | null })._handle?.fd ?? -1;
    if (native === undefined || fd < 0) return false;
    try {
      this.#handovers?.send(worker, native.duplicate(fd));
    } catch (error) {
      log.warning(`listener '${this.#compiled.name}': a connection could not be handed over: ${(error as Error).message}`);
      return false;
    }
    // Only this descriptor is closed: the connection lives on in the other.
    socket.destroy();
    return true;
  }

  /** A connection that another worker accepted. */
  #receive(fd: number): void {
    const socket = openSocket(fd);
    if (this.#closed) socket.destroy();
    else this.#take(socket);
  }

  #take(socket: Socket): void {
    const compiled = this.#compiled;
    const { timers } = this.#environment;
    const globalLimit = compiled.ignoresGlobalLimit ? undefined : this.#environment.globalLimit;
    if (globalLimit?.tryAdd() === false) {
      compiled.stats.downstream_global_cx_overflow.inc();
      compiled.balance?.release();
      socket.destroy();
      return;
    }
    if (!compiled.connections.tryAdd(compiled.connectionLimit())) {
      compiled.stats.downstream_cx_overflow.inc();
      globalLimit?.remove();
      compiled.balance?.release();
      socket.destroy();
      return;
    }
    const remoteAddress = socket.remoteAddress === undefined ? anonymousPipe : ipAddress(socket.remoteAddress, socket.remotePort ?? 0);
    const localAddress =
      socket.localAddress === undefined ? (compiled.addresses[0]?.address ?? anonymousPipe) : ipAddress(socket.localAddress, socket.localPort ?? 0);
    if (compiled.socket.keepAlive) socket.setKeepAlive(true, compiled.socket.keepAliveDelayMs);
    const info = new StreamInfo(timers.clock.now(), timers.clock.wall());
    info.listenerName = compiled.name;
    info.downstreamDetectedCloseType = "Normal";
    if (Object.keys(compiled.metadata).length > 0) info.listenerMetadata = compiled.metadata;
    if (compiled.listenerFilters.length === 0) {
      this.#begin(compiled, socket, info, {
        remoteAddress,
        localAddress,
        directRemoteAddress: remoteAddress,
        directLocalAddress: localAddress,
        serverName: "",
        transportProtocol: "",
        applicationProtocols: [],
        rest: undefined,
      });
      return;
    }
    const { stats } = compiled;
    stats.downstream_pre_cx_active.inc();
    this.#pending.add(socket);
    inspect(socket, {
      filters: compiled.listenerFilters,
      timers,
      timeoutMs: compiled.listenerFiltersTimeoutMs,
      continueOnTimeout: compiled.continueOnTimeout,
      info,
      remoteAddress,
      localAddress,
      done: (result, facts) => {
        stats.downstream_pre_cx_active.dec();
        this.#pending.delete(socket);
        if (result !== "ok") {
          if (result === "timeout") stats.downstream_pre_cx_timeout.inc();
          else if (result === "closed") stats.downstream_listener_filter_remote_close.inc();
          // What a filter refuses it counts itself.
          else if (result === "error") stats.downstream_listener_filter_error.inc();
          drop(socket, facts.rest.length > 0);
          info.downstreamRemoteAddress = remoteAddress;
          info.downstreamDirectRemoteAddress = remoteAddress;
          info.downstreamLocalAddress = localAddress;
          this.#dropped(compiled, info);
          return;
        }
        this.#afterInspection(compiled, socket, info, facts, remoteAddress, localAddress);
      },
    });
  }

  #afterInspection(
    compiled: CompiledListener,
    socket: Socket,
    info: StreamInfo,
    facts: InspectedSocket,
    directRemoteAddress: Address,
    directLocalAddress: Address,
  ): void {
    info.requestedServerName = facts.requestedServerName;
    info.ja3 = facts.ja3;
    info.ja4 = facts.ja4;
    this.#begin(compiled, socket, info, {
      remoteAddress: facts.remoteAddress,
      localAddress: facts.localAddress,
      directRemoteAddress,
      directLocalAddress,
      serverName: facts.requestedServerName,
      transportProtocol: facts.detectedTransportProtocol === "" ? "raw_buffer" : facts.detectedTransportProtocol,
      applicationProtocols: facts.requestedApplicationProtocols,
      rest: facts.rest.length > 0 ? facts.rest : undefined,
    });
  }

  #begin(
    compiled: CompiledListener,
    socket: Socket,
    info: StreamInfo,
    facts: Parameters<CompiledListener["chains"]["find"]>[0] & { readonly directLocalAddress: Address; readonly rest: Buffer | undefined },
  ): void {
    const chain = compiled.chains.find(facts);
    info.downstreamRemoteAddress = facts.remoteAddress;
    info.downstreamDirectRemoteAddress = facts.directRemoteAddress;
    info.downstreamLocalAddress = facts.localAddress;
    info.downstreamDirectLocalAddress = facts.directLocalAddress;
    if (chain === undefined) {
      compiled.stats.no_filter_chain_match.inc();
      info.setFlag("NR");
      info.responseCodeDetails = "filter_chain_not_found";
      drop(socket, facts.rest !== undefined);
      this.#dropped(compiled, info);
      return;
    }
    info.filterChainName = chain.name;
    const openedMs = this.#environment.timers.clock.now();
    countOpened(compiled.stats);
    if (Object.keys(chain.metadata).length > 0) info.filterChainMetadata = chain.metadata;
    const options = {
      timers: this.#environment.timers,
      side: "downstream",
      bufferLimitBytes: compiled.perConnectionBufferLimitBytes,
      localAddress: facts.localAddress,
      isLocalAddressRestored: facts.localAddress !== facts.directLocalAddress,
      remoteAddress: facts.remoteAddress,
      directRemoteAddress: facts.directRemoteAddress,
    } as const;
    const transport = chain.transportSocket;
    if (transport?.tls === undefined) {
      this.#open(compiled, chain, acceptPlain(socket, options, facts.rest), info, openedMs);
      return;
    }
    if (facts.rest !== undefined) socket.unshift(facts.rest);
    this.#pending.add(socket);
    const timer = this.#environment.timers.createTimer(() => {
      compiled.stats.downstream_cx_transport_socket_connect_timeout.inc();
      info.connectionTerminationDetails = "transport socket timeout was reached";
      info.downstreamLocalCloseReason = "transport_socket_timeout";
      socket.destroy();
    });
    timer.enable(this.#overload.timeout("TRANSPORT_SOCKET_CONNECT", chain.connectTimeoutMs));
    acceptTls(
      socket,
      transport.optionsFor === undefined ? transport.tls : (hello) => transport.optionsFor?.(hello) ?? {},
      options,
      (connection, tlsSocket, hello) => {
        timer.disable();
        this.#pending.delete(socket);
        // Of a peer that is refused, too: logs name it.
        info.downstreamTls = connection.tls;
        const refused = transport.accept?.(tlsSocket, hello);
        if (refused !== undefined || this.#closed) {
          connection.close("no_flush", refused);
          info.downstreamTransportFailureReason = refused ?? "";
          countClosed(compiled.stats, this.#environment.timers.clock.now() - openedMs);
          this.#dropped(compiled, info);
          return;
        }
        info.downstreamHandshakeCompleteMs = this.#environment.timers.clock.now();
        this.#open(compiled, chain, connection, info, openedMs);
      },
      (error) => {
        timer.disable();
        this.#pending.delete(socket);
        transport.onError?.(error);
        info.downstreamTransportFailureReason = tlsFailure(error);
        countClosed(compiled.stats, this.#environment.timers.clock.now() - openedMs);
        this.#dropped(compiled, info);
      },
    );
  }

  #gone(compiled: CompiledListener, active: ActiveConnection): void {
    this.#connections.delete(active);
    this.#uncount(compiled);
  }

  /** Gives back what `#take` has taken. */
  #uncount(compiled: CompiledListener): void {
    compiled.connections.remove();
    compiled.balance?.release();
    if (!compiled.ignoresGlobalLimit) this.#environment.globalLimit?.remove();
  }

  /** A connection that no filter ever saw. */
  #dropped(compiled: CompiledListener, info: StreamInfo): void {
    this.#uncount(compiled);
    if (!compiled.logsAccess) return;
    info.endMs = this.#environment.timers.clock.now();
    compiled.accessLog.log(new ConnectionLog(info));
  }

  #open(compiled: CompiledListener, chain: CompiledChain, connection: SocketConnection, info: StreamInfo, openedMs: number): void {
    info.connectionId = connection.id;
    const active = new ActiveConnection(compiled, chain, connection, info, openedMs, (gone) => this.#gone(compiled, gone), this.#environment.timers);
    this.#connections.add(active);
    active.start();
  }
}

/** As the sockets that a server makes of accepted connections. */
function openSocket(fd: number): Socket {
  const socket = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true, pauseOnCreate: true } as ConstructorParameters<typeof Socket>[0]);
  socket.setNoDelay(true);
  return socket;
}

/** Envoy leaves what it looked at in the kernel, which answers the closing of such a socket with a reset. */
function drop(socket: Socket, unread: boolean): void {
  if (unread && socket.remoteAddress !== undefined) socket.resetAndDestroy();
  else socket.destroy();
}
