/** What a module is told about and may ask of: its root, and each stream. Host functions act on the context that is in effect. */
import { getLogger, type Logger } from "../../log/log.ts";
import type { Timer } from "../../net/timer-wheel.ts";
import type { PropertySource } from "../attributes.ts";
import { mapType } from "./abi.ts";
import { HeadFields } from "./fields.ts";
import type { WasmPlugin } from "./plugin.ts";
import type { WasmVm } from "./vm.ts";

export const log: Logger = getLogger("wasm");

/** Fields of a head for reading and writing: name, value, name, value, ... */
export interface FieldMap {
  entries(): string[];
  get(name: string): string | undefined;
  /** False: it cannot be. */
  set(name: string, value: string): boolean;
  add(name: string, value: string): boolean;
  remove(name: string): void;
  replaceAll(pairs: readonly string[]): void;
}

/** Bytes that a module may read, and perhaps replace in part. */
export interface GuestBuffer {
  read(): Buffer;
  /** undefined: read only. */
  replace?(data: Buffer): void;
}

/** An exchange of the module's own that waits for its answer. */
export interface PendingCall {
  cancel(): void;
  /** Of gRPC streams: another message. */
  send?(message: Buffer, end: boolean): void;
  close?(): void;
}

export abstract class WasmContext {
  readonly vm: WasmVm;
  readonly plugin: WasmPlugin;
  readonly id: number;
  /** 0 for a root. */
  readonly parentId: number;
  readonly calls = new Map<number, PendingCall>();
  /** Of the answer that the module is being told of. */
  callHeaders: FieldMap | undefined = undefined;
  callTrailers: FieldMap | undefined = undefined;
  callBody: Buffer | undefined = undefined;
  grpcInitialMetadata: FieldMap | undefined = undefined;
  grpcTrailingMetadata: FieldMap | undefined = undefined;
  grpcMessage: Buffer | undefined = undefined;
  /** Status and text of the last answer, for proxy_get_status. */
  statusCode = 0;
  statusMessage = "";
  ended = false;

  constructor(vm: WasmVm, plugin: WasmPlugin, parentId: number) {
    this.vm = vm;
    this.plugin = plugin;
    this.id = vm.nextContextId();
    this.parentId = parentId;
    vm.contexts.set(this.id, this);
  }

  abstract readonly properties: PropertySource | undefined;
  fields(_type: number): FieldMap | undefined {
    return undefined;
  }
  buffer(_type: number): GuestBuffer | undefined {
    return undefined;
  }
  /** True: it could be done (later, when the module has returned). */
  continueStream(_type: number): boolean {
    return false;
  }
  closeStream(_type: number): boolean {
    return false;
  }
  sendLocalReply(_status: number, _body: string, _details: string, _fields: readonly string[], _grpcStatus: number): boolean {
    return false;
  }
  clearRouteCache(): void {}
  /** The VM has failed. */
  fail(): void {}

  /** proxy_done: what proxy_on_done put off is done. */
  done(): void {
    if (this.ended) this.remove();
  }

  /** Ends it: proxy_on_done, and proxy_on_delete at once or after proxy_done. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    for (const call of this.calls.values()) call.cancel();
    this.calls.clear();
    if (this.vm.failed) {
      this.vm.contexts.delete(this.id);
      return;
    }
    if (this.vm.call(this, "proxy_on_done", this.id) !== 0) this.remove();
  }
  protected remove(): void {
    if (!this.vm.contexts.has(this.id)) return;
    this.vm.call(this, "proxy_on_delete", this.id);
    this.vm.contexts.delete(this.id);
  }
}

/** The one of a plugin in a VM: configuration, ticks, queues. */
export class RootContext extends WasmContext {
  #timer: Timer | undefined = undefined;
  #tickMs = 0;
  #logged: Omit<PropertySource, "plugin"> | undefined = undefined;

  constructor(vm: WasmVm, plugin: WasmPlugin) {
    super(vm, plugin, 0);
  }
  get properties(): PropertySource | undefined {
    return { ...this.#logged, plugin: this.plugin };
  }

  /** An access log line of a stream that has no context of its own. */
  onLog(of: Omit<PropertySource, "plugin">): void {
    this.#logged = of;
    this.vm.call(this, "proxy_on_log", this.id);
    this.#logged = undefined;
  }
  override fields(type: number): FieldMap | undefined {
    const of = this.#logged;
    const map =
      type === mapType.requestHeaders
        ? of?.requestHeaders
        : type === mapType.responseHeaders
          ? of?.responseHeaders
          : type === mapType.responseTrailers
            ? of?.responseTrailers
            : undefined;
    return map === undefined ? undefined : new HeadFields(map);
  }

  setTickPeriod(ms: number): void {
    // Longer than timers can wait is as good as never.
    this.#tickMs = Math.min(ms, 0x7fff0000);
    this.#timer ??= this.plugin.timers.createTimer(() => {
      if (this.vm.failed || this.ended || this.#tickMs === 0) return;
      this.vm.call(this, "proxy_on_tick", this.id);
      if (this.#tickMs > 0) this.#timer?.enable(this.#tickMs);
    });
    if (ms === 0) this.#timer.disable();
    else this.#timer.enable(this.#tickMs);
  }

  onQueueReady(token: number): void {
    if (!this.vm.failed && !this.ended) this.vm.call(this, "proxy_on_queue_ready", this.id, token);
  }

  override fail(): void {
    this.#timer?.disable();
    for (const call of this.calls.values()) call.cancel();
    this.calls.clear();
  }
  override end(): void {
    this.#timer?.disable();
    super.end();
  }
}
