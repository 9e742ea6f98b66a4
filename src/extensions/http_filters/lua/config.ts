/** envoy.filters.http.lua: scripts on requests and responses. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { DataSource } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type { Lua, LuaPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.lua.v3.d.ts";
import { readDataSource } from "../../../net/tls/data-source.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { ScriptStats } from "../../lua/wrappers/stats.ts";
import { LuaFilter } from "./filter.ts";
import { Script } from "./script.ts";
import type { LuaRouteSettings, LuaSettings } from "./settings.ts";

const pkg = "envoy.extensions.filters.http.lua.v3.";
const typeName = `${pkg}Lua`;
const perRoute = `${pkg}LuaPerRoute`;

type Fields = Pick<Lua | LuaPerRoute, "packagePaths" | "sharedVmId">;

function compileScript(code: string, from: Fields, context: CompileContext, at: object, field: string): Script | undefined {
  const source = { code, packagePaths: from.packagePaths, sharedVmId: from.sharedVmId };
  if (context.validating) {
    const wrong = Script.check(source);
    if (wrong !== undefined) {
      context.report(at, field, { code: "OR5601", text: wrong });
      return undefined;
    }
  }
  return new Script(source, context.stats.gauge("lua.lua_vm_count"));
}

function compileSource(source: DataSource, from: Fields, context: CompileContext, at: object, field: string): Script | undefined {
  const code = readDataSource(source, context);
  return code === undefined ? undefined : compileScript(code.toString("utf8"), from, context, at, field);
}

export default {
  honours: {
    [typeName]: ["inline_code", "source_codes", "default_source_code", "stat_prefix", "clear_route_cache", "filter_context", "package_paths", "shared_vm_id"],
    [perRoute]: ["disabled", "name", "source_code", "filter_context", "package_paths", "shared_vm_id"],
  },
  httpFilter: {
    compile(message, context, { name, scope }) {
      if (!isMessage<Lua>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      let script: Script | undefined;
      if (message.defaultSourceCode !== undefined) {
        if (message.inlineCode !== "")
          context.report(message, "default_source_code", {
            code: "OR5602",
            text: "Error: Only one of `inline_code` or `default_source_code` can be set for the Lua filter.",
          });
        script = compileSource(message.defaultSourceCode, message, context, message, "default_source_code");
      } else if (message.inlineCode !== "") script = compileScript(message.inlineCode, message, context, message, "inline_code");
      const named = new Map<string, Script>();
      for (const [key, source] of Object.entries(message.sourceCodes)) {
        const compiled = compileSource(source, message, context, message, `source_codes[${JSON.stringify(key)}]`);
        if (compiled !== undefined) named.set(key, compiled);
      }
      const own = scope.scope(message.statPrefix === "" ? "lua." : `lua.${message.statPrefix}${message.statPrefix.endsWith(".") ? "" : "."}`);
      const settings: LuaSettings = {
        name,
        clearRouteCache: message.clearRouteCache ?? true,
        filterContext: message.filterContext,
        stats: { errors: own.counter("errors"), executions: own.counter("executions") },
        scriptStats: new ScriptStats(own),
        codeFor(route) {
          if (route === undefined) return script?.loaded;
          if (route.disabled) return undefined;
          if (route.sourceName !== undefined) return named.get(route.sourceName)?.loaded;
          return (route.script ?? script)?.loaded;
        },
      };
      // Loaded before the first request has to wait for it.
      if (!context.validating) for (const one of [script, ...named.values()]) void one?.loaded;
      return () => new LuaFilter(settings);
    },
    compileRoute(message: AnyMessage, context): LuaRouteSettings {
      if (!isMessage<LuaPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      const { override, filterContext } = message;
      return {
        disabled: override.case === "disabled" && override.value,
        sourceName: override.case === "name" ? override.value : undefined,
        script: override.case === "sourceCode" ? compileSource(override.value, message, context, message, "source_code") : undefined,
        filterContext,
      };
    },
  },
} satisfies Extension;
