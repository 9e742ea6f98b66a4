/** The scripts of one filter configuration, loaded in this thread. */
import type { JsonObject } from "../../../config/message.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { ScriptStats } from "../../lua/wrappers/stats.ts";
import type { Script } from "./script.ts";

export interface LuaStatistics {
  readonly errors: Counter;
  readonly executions: Counter;
}

export interface LuaSettings {
  /** The filter's name in its chain, under which metadata is looked for. */
  readonly name: string;
  readonly clearRouteCache: boolean;
  readonly filterContext: JsonObject | undefined;
  readonly stats: LuaStatistics;
  readonly scriptStats: ScriptStats;
  /** The code that runs for a route; undefined: none. */
  codeFor(route: LuaRouteSettings | undefined): LoadedScript | undefined;
}

export interface LuaRouteSettings {
  readonly disabled: boolean;
  /** Name of one of the filter's source_codes. */
  readonly sourceName: string | undefined;
  readonly script: Script | undefined;
  readonly filterContext: JsonObject | undefined;
}

export interface LoadedScript {
  readonly vm: import("../../lua/vm.ts").LuaVm;
  /** Registry references of the two functions; undefined: the script has none of the name. */
  readonly onRequest: number | undefined;
  readonly onResponse: number | undefined;
}
