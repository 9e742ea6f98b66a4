/**
 * Subscriptions that share one stream to a management server (ADS; or one type by itself): who wants what, in which version it is known,
 * and what the server is told of it. The two variants of the protocol differ in their messages only (sotw.ts, delta.ts).
 * https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
 */
import { getLogger } from "../../log/log.ts";
import type { Gauge, StatsScope } from "../../stats/stats.ts";
import type { Resource, UnknownFields } from "../resource.ts";
import { Intake, type ResourceUpdate, type Subscriber, type Subscription } from "../subscription.ts";
import type { ManagementStream, OpenStream } from "./transport.ts";

const log = getLogger("config");

/** Who wants resources of a type. */
export interface Watcher {
  readonly subscriber: Subscriber;
  readonly intake: Intake;
}

/** All that is known of one type of resources on this stream. */
export interface TypeState {
  readonly typeName: string;
  readonly watchers: Set<Watcher>;
  /** Of what was taken last, "" before. */
  version: string;
  nonce: string;
  /** Versions of single resources, in the delta protocol. */
  readonly versions: Map<string, string>;
  /** What the server of this stream was last told is wanted; undefined: nothing yet. */
  told: ReadonlySet<string> | undefined;
}

/** An answer, read. */
export interface Answer {
  readonly typeName: string;
  readonly nonce: string;
  readonly version: string;
  /** "" where the server does not say who it is. */
  readonly identifier: string;
  /** Why none of it can be used; undefined: it can. */
  readonly refusal: string | undefined;
  readonly resources: readonly Resource[];
  /** undefined: `resources` is all there is. */
  readonly removed: readonly string[] | undefined;
}

/** The messages of one variant of the protocol. */
export interface Protocol {
  /** undefined: these bytes are no answer. */
  read(bytes: Uint8Array, unknownFields: UnknownFields): Answer | undefined;
  /** What is wanted; `isFirst`: of its type on this stream. */
  request(state: TypeState, wanted: ReadonlySet<string>, isFirst: boolean, node: object | undefined): Uint8Array;
  /** The answer to an answer, for which `state` has been brought up to date; `refusal`: why it was not taken. */
  acknowledge(state: TypeState, wanted: ReadonlySet<string>, nonce: string, refusal: string | undefined, node: object | undefined): Uint8Array;
  /** The answer was taken. */
  taken(state: TypeState, answer: Answer): void;
}

export interface MuxOptions {
  readonly protocol: Protocol;
  readonly open: OpenStream;
  /** Where control_plane.* is counted. */
  readonly scope: StatsScope;
  readonly unknownFields: UnknownFields;
  /** The envoy.config.core.v3.Node that asks. */
  readonly node: () => object;
  readonly setText: (name: string, value: string) => void;
  /** The server need not be told in every message who asks. */
  readonly nodeOnFirstMessageOnly: boolean;
  /** After a failure the stream is opened again at random within this, doubled each time, milliseconds. */
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  /** From 0 to 1. */
  readonly random: () => number;
}

/** While an update of a type is being taken, what depends on it is asked for only once, at its end. */
const dependents: Readonly<Record<string, readonly string[]>> = {
  "envoy.config.cluster.v3.Cluster": ["envoy.config.endpoint.v3.ClusterLoadAssignment", "envoy.extensions.transport_sockets.tls.v3.Secret"],
  "envoy.config.listener.v3.Listener": [
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.config.route.v3.ScopedRouteConfiguration",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
  ],
};

export class GrpcMux {
  readonly #options: MuxOptions;
  readonly #types = new Map<string, TypeState>();
  /** Types whose requests wait, and how many updates they wait for. */
  readonly #paused = new Map<string, number>();
  readonly #connected: Gauge;
  #stream: ManagementStream | undefined;
  #isFlushing = false;
  #nodeSent = false;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #started = false;
  #closed = false;

  constructor(options: MuxOptions) {
    this.#options = options;
    this.#connected = options.scope.gauge("connected_state");
    options.scope.gauge("pending_requests");
    options.scope.counter("rate_limit_enforced");
    options.setText(`${options.scope.prefix}identifier`, "");
  }

  /** `initialFetchTimeoutMs`: how long whoever waits for the first answer waits, 0: for ever. */
  subscribe(subscriber: Subscriber, initialFetchTimeoutMs: number): Subscription {
    const watcher: Watcher = { subscriber, intake: new Intake(subscriber, "gRPC") };
    const state = this.#type(subscriber.typeName);
    return {
      start: () => {
        state.watchers.add(watcher);
        watcher.intake.attempt();
        watcher.intake.waitAtMost(initialFetchTimeoutMs);
        if (!this.#started) {
          this.#started = true;
          this.#connect();
        }
        this.#flushSoon();
      },
      close: () => {
        watcher.intake.close();
        state.watchers.delete(watcher);
        this.#flushSoon();
      },
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stream?.close();
    this.#stream = undefined;
    for (const { watchers } of this.#types.values()) for (const { intake } of watchers) intake.close();
  }

  #type(typeName: string): TypeState {
    let state = this.#types.get(typeName);
    if (state === undefined) {
      state = { typeName, watchers: new Set(), version: "", nonce: "", versions: new Map(), told: undefined };
      this.#types.set(typeName, state);
    }
    return state;
  }

  // ---- the stream --------------------------------------------------------------------------------------------------------

  #connect(): void {
    if (this.#closed) return;
    this.#nodeSent = false;
    for (const state of this.#types.values()) {
      state.nonce = "";
      state.told = undefined;
    }
    let isOver = false;
    const stream = this.#options.open({
      onMessage: (bytes) => {
        if (this.#stream === stream) this.#onMessage(bytes);
      },
      onClose: (status, message) => {
        isOver = true;
        if (this.#stream !== undefined && this.#stream !== stream) return;
        this.#onClose(`gRPC stream closed: ${status}, ${message}`);
      },
    });
    if (isOver) return;
    if (stream === undefined) {
      this.#onClose("no stream could be opened to the management server");
      return;
    }
    this.#stream = stream;
    this.#connected.set(1);
    this.#flushSoon();
  }

  #onClose(why: string): void {
    if (this.#closed) return;
    this.#stream = undefined;
    this.#connected.set(0);
    for (const { watchers } of this.#types.values()) for (const { intake } of watchers) intake.disconnected();
    const { baseMs, maxMs } = this.#options.backoff;
    const waitMs = Math.min(maxMs, baseMs * (2 ** Math.min(this.#failures++, 20) + 1) - 1) * this.#options.random();
    // What lasts is said less and less often.
    (this.#failures < 3 ? log.warning : log.debug).call(log, `${why}; next try in ${Math.round(waitMs)} ms`);
    this.#timer = setTimeout(() => this.#connect(), waitMs);
    this.#timer.unref();
  }

  // ---- asking ------------------------------------------------------------------------------------------------------------

  /** Requests of one turn are put together. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    for (const state of this.#types.values()) {
      if (this.#stream === undefined) return;
      if ((this.#paused.get(state.typeName) ?? 0) > 0) continue;
      const wanted = wantedOf(state);
      const { told } = state;
      // Nobody is left: an empty request would ask for everything.
      if (state.watchers.size === 0 || (told !== undefined && isSame(told, wanted))) continue;
      this.#stream.send(this.#options.protocol.request(state, wanted, told === undefined, this.#node()));
      state.told = wanted;
    }
  }

  #node(): object | undefined {
    if (this.#nodeSent && this.#options.nodeOnFirstMessageOnly) return undefined;
    this.#nodeSent = true;
    return this.#options.node();
  }

  // ---- being answered ------------------------------------------------------------------------------------------------------

  #onMessage(bytes: Buffer): void {
    const answer = this.#options.protocol.read(bytes, this.#options.unknownFields);
    if (answer === undefined) {
      log.warning("the management server has sent what is no discovery response");
      return;
    }
    this.#failures = 0;
    if (answer.identifier !== "") this.#options.setText(`${this.#options.scope.prefix}identifier`, answer.identifier);
    const state = this.#types.get(answer.typeName);
    if (state === undefined) {
      log.warning(`Ignoring unknown type URL type.googleapis.com/${answer.typeName}`);
      return;
    }
    state.nonce = answer.nonce;
    const stream = this.#stream;
    const waiting = dependents[answer.typeName] ?? [];
    for (const type of waiting) this.#paused.set(type, (this.#paused.get(type) ?? 0) + 1);
    void this.#offer(state, answer).then((refusal) => {
      if (refusal === undefined) this.#options.protocol.taken(state, answer);
      // Another stream knows nothing of this answer.
      if (stream !== undefined && this.#stream === stream) {
        const wanted = wantedOf(state);
        stream.send(this.#options.protocol.acknowledge(state, wanted, answer.nonce, refusal, this.#node()));
        if (state.watchers.size > 0) state.told = wanted;
      }
      for (const type of waiting) this.#paused.set(type, (this.#paused.get(type) ?? 1) - 1);
      this.#flushSoon();
    });
  }

  /** Why it was refused by anyone, undefined where everyone took it. */
  async #offer(state: TypeState, answer: Answer): Promise<string | undefined> {
    if (answer.refusal !== undefined) {
      for (const { intake } of state.watchers) intake.refuse(answer.refusal);
      return answer.refusal;
    }
    const offers = [...state.watchers].flatMap((watcher) => {
      const update = updateFor(watcher.subscriber.names, answer);
      if (update === undefined) return [];
      watcher.intake.attempt();
      return [new Promise<string | undefined>((resolve) => watcher.intake.offer(update, resolve))];
    });
    return (await Promise.all(offers)).find((refusal) => refusal !== undefined);
  }
}

/** What of an answer concerns a subscriber; undefined: nothing. */
function updateFor(names: readonly string[] | undefined, { resources, removed, version }: Answer): ResourceUpdate | undefined {
  if (names === undefined) return { resources, removed, version };
  const found = resources.filter(({ name }) => names.includes(name));
  const gone = removed?.filter((name) => names.includes(name));
  if (found.length === 0 && (gone === undefined || gone.length === 0)) return undefined;
  return { resources: found, removed: gone, version };
}

/** Names; none: all there are. */
function wantedOf({ watchers }: TypeState): ReadonlySet<string> {
  const wanted = new Set<string>();
  for (const { subscriber } of watchers) {
    if (subscriber.names === undefined) return new Set();
    for (const name of subscriber.names) wanted.add(name);
  }
  return wanted;
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((name) => b.has(name));
}
