/** One module in memory of its own, and all that happens between it and us. Whatever it does, its failure is only its own. */

import { status } from "./abi.ts";
import { log, type RootContext, type WasmContext } from "./context.ts";
import { GuestMemory } from "./guest-memory.ts";
import { hostFunctions } from "./host-functions.ts";
import type { WasmPlugin } from "./plugin.ts";
import { notCapable, wasiFunctions } from "./wasi.ts";

type Exported = (...args: (number | bigint)[]) => number | undefined;

/** The module cannot be used. */
export class WasmLoadError extends Error {}

export interface VmSettings {
  readonly vmId: string;
  readonly configuration: Buffer;
  readonly environment: readonly (readonly [string, string])[];
  /** Names of host functions and of functions of the module that may be used; undefined: all. */
  readonly allowed: ReadonlySet<string> | undefined;
}

const versions = ["proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0", "proxy_abi_version_0_1_0"] as const;
export type AbiVersion = "0.1.0" | "0.2.0" | "0.2.1";

export class WasmVm {
  readonly settings: VmSettings;
  readonly abi: AbiVersion;
  readonly contexts = new Map<number, WasmContext>();
  /** Roots by plugin. */
  readonly roots = new Map<string, RootContext>();
  memory!: GuestMemory;
  failed = false;
  /** The context that host functions act on. */
  current: WasmContext | undefined = undefined;
  #exports: Readonly<Record<string, WebAssembly.ExportValue | undefined>> = {};
  #lastContext = 0;
  #lastToken = 0;
  #depth = 0;
  readonly #later: (() => void)[] = [];
  readonly #onFailure: () => void;

  constructor(module: WebAssembly.Module, settings: VmSettings, onFailure: () => void) {
    this.settings = settings;
    this.#onFailure = onFailure;
    const exported = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
    const version = versions.find((name) => exported.has(name));
    if (version === undefined) throw new WasmLoadError("Missing or unknown Proxy-Wasm ABI version");
    this.abi = version.slice("proxy_abi_version_".length).replaceAll("_", ".") as AbiVersion;
    const instance = new WebAssembly.Instance(module, this.#imports(module));
    this.#exports = instance.exports;
    const memory = instance.exports.memory as WebAssembly.Memory | undefined;
    if (memory === undefined || typeof memory === "function" || !("buffer" in memory)) throw new WasmLoadError("Wasm module doesn't export its memory.");
    this.memory = new GuestMemory(memory);
    if (!exported.has("malloc") && !exported.has("proxy_on_memory_allocate")) throw new WasmLoadError("Wasm module is missing malloc function.");
  }

  /** Runs what a module wants run before anything else. */
  initialize(): boolean {
    const first = this.#exports._initialize !== undefined ? "_initialize" : "_start";
    this.call(undefined, first);
    if (!this.failed && first === "_initialize" && this.#exports.main !== undefined) this.call(undefined, "main", 0, 0);
    return !this.failed;
  }

  nextContextId(): number {
    this.#lastContext = (this.#lastContext % 0x7fffffff) + 1;
    return this.#lastContext;
  }
  nextToken(): number {
    this.#lastToken = (this.#lastToken % 0x7fffffff) + 1;
    return this.#lastToken;
  }

  has(name: string): boolean {
    return (
      typeof this.#exports[name] === "function" && (this.settings.allowed === undefined || this.settings.allowed.has(name) || !name.startsWith("proxy_on_"))
    );
  }

  /** Calls a function of the module with `context` in effect; what it does not have answers as the ABI says (1 for done, start and configure, else 0). */
  call(context: WasmContext | undefined, name: string, ...args: (number | bigint)[]): number {
    if (this.failed) return 0;
    if (!this.has(name)) return name === "proxy_on_done" || name === "proxy_on_vm_start" || name === "proxy_on_configure" ? 1 : 0;
    const outer = this.current;
    this.current = context;
    this.#depth++;
    try {
      return (this.#exports[name] as Exported)(...args) ?? 1;
    } catch (error) {
      log.error(`Function: ${name} failed: ${describe(error)}`);
      this.fail();
      return 0;
    } finally {
      this.current = outer;
      this.#depth--;
      if (this.#depth === 0) this.#runLater();
    }
  }

  /** What must not happen while the module runs, since it would be called again in the middle. */
  afterCall(work: () => void): void {
    if (this.#depth === 0) work();
    else this.#later.push(work);
  }
  #runLater(): void {
    while (this.#depth === 0) {
      const work = this.#later.shift();
      if (work === undefined) return;
      work();
    }
  }

  /** It does nothing any more; streams that depend on it hear of it. */
  fail(): void {
    if (this.failed) return;
    this.failed = true;
    this.#onFailure();
    for (const context of [...this.contexts.values()]) context.fail();
    this.contexts.clear();
    this.roots.clear();
  }

  /** Puts data where the module finds it, in memory that it gives, and says where. */
  give(data: Uint8Array, pointerAt: number, sizeAt: number): number {
    if (data.length === 0) {
      this.memory.setUint32(pointerAt, 0);
      this.memory.setUint32(sizeAt, 0);
      return status.ok;
    }
    // Both places are looked at before the module is asked for memory.
    this.memory.view(pointerAt, 4);
    this.memory.view(sizeAt, 4);
    const allocate = (this.#exports.malloc ?? this.#exports.proxy_on_memory_allocate) as Exported;
    const at = (allocate(data.length) ?? 0) >>> 0;
    if (at === 0) return status.invalidMemoryAccess;
    this.memory.write(at, data);
    this.memory.setUint32(pointerAt, at);
    this.memory.setUint32(sizeAt, data.length);
    return status.ok;
  }

  #imports(module: WebAssembly.Module): WebAssembly.Imports {
    const { allowed } = this.settings;
    const env = hostFunctions(this);
    const vm = this;
    const wasi = wasiFunctions({
      get memory() {
        return vm.memory;
      },
      environment: this.settings.environment,
      output: (stream, text) => this.logAs(stream === "stdout" ? 2 : 4, text),
    });
    const imports: WebAssembly.Imports = {};
    for (const { module: space, name, kind } of WebAssembly.Module.imports(module)) {
      imports[space] ??= {};
      const isWasi = space === "wasi_unstable" || space === "wasi_snapshot_preview1";
      const found = kind === "function" ? (isWasi ? wasi[name] : space === "env" ? env[name] : undefined) : undefined;
      if (found === undefined) {
        log.error(`Failed to load Wasm module due to a missing import: ${space}.${name}`);
        throw new WasmLoadError("Failed to initialize Wasm code");
      }
      const isRestricted = allowed !== undefined && !allowed.has(name) && (isWasi || name.startsWith("proxy_"));
      imports[space][name] = isRestricted ? restricted(name, isWasi) : found;
    }
    return imports;
  }

  /** A line of the module's log. Levels: 0 trace, 1 debug, 2 info, 3 warning, 4 error, 5 critical. */
  logAs(level: number, text: string): void {
    const { current } = this;
    const plugin: WasmPlugin | undefined = current?.plugin;
    let prefix = "wasm log";
    if (plugin !== undefined && plugin.name !== "") prefix += ` ${plugin.name}`;
    if (plugin !== undefined && plugin.rootId !== "") prefix += ` ${plugin.rootId}`;
    if (this.settings.vmId !== "") prefix += ` ${this.settings.vmId}`;
    const line = `${prefix}: ${text}`;
    switch (level) {
      case 0:
        log.trace(line);
        break;
      case 1:
        log.debug(line);
        break;
      case 2:
        log.info(line);
        break;
      case 3:
        log.warning(line);
        break;
      case 4:
        log.error(line);
        break;
      default:
        log.critical(line);
    }
  }
}

function restricted(name: string, isWasi: boolean): () => number {
  return () => {
    log.error(`Attempted call to restricted ${isWasi ? "WASI" : "proxy-wasm"} capability: ${name}`);
    return isWasi ? notCapable : status.internalFailure;
  };
}

function describe(error: unknown): string {
  if (error instanceof Error) return `Uncaught ${error.name}: ${error.message}`;
  return String(error);
}
