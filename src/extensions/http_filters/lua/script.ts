/** One script of the configuration and its interpreter. */
import type { Gauge } from "../../../stats/stats.ts";
import { LuaLoadError, LuaVm } from "../../lua/vm.ts";
import { log } from "../../lua/wrappers/define.ts";
import type { LoadedScript } from "./settings.ts";

export interface ScriptSource {
  readonly code: string;
  readonly packagePaths: readonly string[];
  /** Scripts of the same id have their globals in common; "": alone. */
  readonly sharedVmId: string;
}

/** lua.lua_vm_count goes down when an interpreter that nothing refers to any more is collected. */
const counted = new FinalizationRegistry<Gauge>((gauge) => gauge.dec());

/** Interpreters that several scripts share, by id; each goes when the last script that uses it has gone. */
const shared = new Map<string, WeakRef<LuaVm>>();

export class Script {
  readonly #source: ScriptSource;
  readonly #count: Gauge;
  #loaded: LoadedScript | undefined = undefined;

  /** `count`: of the interpreters that are alive. */
  constructor(source: ScriptSource, count: Gauge) {
    this.#source = source;
    this.#count = count;
  }

  /** The text of what is wrong with it, or undefined. Runs it once, as Envoy does. */
  static check(source: ScriptSource): string | undefined {
    try {
      const { onRequest, onResponse } = load({ ...source, sharedVmId: "" });
      if (onRequest === undefined) log.info("envoy_on_request() function not found. Lua filter will not hook requests.");
      if (onResponse === undefined) log.info("envoy_on_response() function not found. Lua filter will not hook responses.");
      return undefined;
    } catch (error) {
      if (error instanceof LuaLoadError) return `script load error: ${error.message}`;
      throw error;
    }
  }

  /** Loads it on first use, and again where its interpreter has failed. Undefined: it does not load here, which the log says. */
  get loaded(): LoadedScript | undefined {
    if (this.#loaded !== undefined && !this.#loaded.vm.broken) return this.#loaded;
    try {
      this.#loaded = load(this.#source, this.#count);
    } catch (error) {
      log.error(`script load error: ${error instanceof Error ? error.message : String(error)}`);
      this.#loaded = undefined;
    }
    return this.#loaded;
  }
}

function load({ code, packagePaths, sharedVmId }: ScriptSource, count?: Gauge): LoadedScript {
  let vm = sharedVmId === "" ? undefined : shared.get(sharedVmId)?.deref();
  if (vm === undefined || vm.broken) {
    vm = new LuaVm();
    vm.setGlobalTable("EnvoyTimestampResolution", { MILLISECOND: 0, MICROSECOND: 1 });
    if (count !== undefined) {
      count.inc();
      counted.register(vm, count);
    }
    if (sharedVmId !== "") shared.set(sharedVmId, new WeakRef(vm));
  }
  vm.addPackagePaths(packagePaths);
  vm.load(code);
  return { vm, onRequest: vm.globalFunction("envoy_on_request"), onResponse: vm.globalFunction("envoy_on_response") };
}
