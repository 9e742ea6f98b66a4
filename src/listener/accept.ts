/** Listener filters on an accepted socket: they look at its first bytes, which are then read again by what comes after. */
import type { Socket } from "node:net";
import type { ListenerFilterFactory, ListenerFilterSocket } from "../extensions/extension.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { Address } from "../net/connection.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";

export interface InspectedSocket extends ListenerFilterSocket {
  /** Bytes that were read and belong to what comes after. */
  rest: Buffer;
}

export interface InspectOptions {
  readonly filters: readonly ListenerFilterFactory[];
  readonly timers: TimerWheel;
  readonly timeoutMs: number;
  readonly continueOnTimeout: boolean;
  readonly info: StreamInfo;
  readonly remoteAddress: Address;
  readonly localAddress: Address;
  /** "closed": the peer went away; "error": reading failed; "refused": a filter said so. */
  readonly done: (result: InspectionResult, socket: InspectedSocket) => void;
}

export type InspectionResult = "ok" | "closed" | "error" | "refused" | "timeout";

/** Bytes that filters may look at in all: the longest PROXY header and a hello behind it. */
const maxPeekBytes = 96 * 1024;

export function inspect(socket: Socket, options: InspectOptions): void {
  const filters = options.filters.map((make) => make());
  let buffer: Buffer = Buffer.alloc(0);
  /** Memory behind `buffer` once there was a second chunk, with room for more: a client may send byte by byte. */
  let store: Buffer | undefined;
  let used = 0;
  let at = 0;
  let settled = false;
  const facts: InspectedSocket = {
    detectedTransportProtocol: "",
    requestedServerName: "",
    requestedApplicationProtocols: [],
    ja3: "",
    ja4: "",
    remoteAddress: options.remoteAddress,
    localAddress: options.localAddress,
    info: options.info,
    descriptor: (socket as unknown as { readonly _handle: { readonly fd: number } | null })._handle?.fd ?? -1,
    rest: buffer,
    consume: (bytes) => {
      buffer = buffer.subarray(bytes);
    },
  };
  const timer = options.timers.createTimer(() => finish(options.continueOnTimeout ? "ok" : "timeout"));
  const finish = (result: InspectionResult): void => {
    if (settled) return;
    settled = true;
    timer.disable();
    socket.pause();
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("close", onEnd);
    socket.off("error", onError);
    // Whoever has it next listens for errors; a socket that is dropped may still have one.
    socket.on("error", () => {});
    facts.rest = buffer;
    options.done(result, facts);
  };
  const run = (ended: boolean): void => {
    while (at < filters.length) {
      const filter = filters[at];
      const verdict = filter.inspect(buffer.length > filter.maxReadBytes && filter.maxReadBytes > 0 ? buffer.subarray(0, filter.maxReadBytes) : buffer, facts);
      if (verdict === "close") {
        finish("refused");
        return;
      }
      if (verdict === "need_more") {
        if (ended) finish("closed");
        else if (buffer.length >= maxPeekBytes) finish("refused");
        return;
      }
      at++;
    }
    finish("ok");
  };
  const onData = (chunk: Buffer): void => {
    if (buffer.length === 0) {
      buffer = chunk;
      store = undefined;
    } else {
      if (store === undefined || used + chunk.length > store.length) {
        store = Buffer.allocUnsafe(2 * (buffer.length + chunk.length));
        buffer.copy(store);
        used = buffer.length;
      }
      chunk.copy(store, used);
      used += chunk.length;
      buffer = store.subarray(used - chunk.length - buffer.length, used);
    }
    run(false);
  };
  const onEnd = (): void => run(true);
  const onError = (): void => finish("error");
  // Filters that need no bytes may be through at once.
  run(false);
  if (settled) return;
  if (options.timeoutMs > 0) timer.enable(options.timeoutMs);
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("close", onEnd);
  socket.on("error", onError);
  socket.resume();
}
