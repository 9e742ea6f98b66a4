/** envoy.router.cluster_specifier_plugin.lua: a script chooses the cluster of a request. */
import { isMessage } from "../../../config/message.ts";
import type { LuaConfig } from "../../../config/schema/types/envoy.extensions.router.cluster_specifiers.lua.v3.d.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { readDataSource } from "../../../net/tls/data-source.ts";
import type { ThreadLocalClusters } from "../../../upstream/upstream.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { LuaLoadError, LuaObject, LuaVm, luaType } from "../../lua/vm.ts";
import { log, luaClass } from "../../lua/wrappers/define.ts";
import { ClusterObject, ReadOnlyHeaders } from "./objects.ts";

const typeName = "envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig";

class RouteHandle extends LuaObject {
  readonly headers: RequestHeaders;
  readonly clusters: ThreadLocalClusters;
  constructor(headers: RequestHeaders, clusters: ThreadLocalClusters) {
    super(handleClass);
    this.headers = headers;
    this.clusters = clusters;
  }
}
const handleClass = luaClass<RouteHandle>("N5Envoy10Extensions6Router3Lua18RouteHandleWrapperE", {
  headers: (self, call) => call.pushObject(new ReadOnlyHeaders(self.headers)),
  getCluster(self, call) {
    const cluster = self.clusters.get(call.utf8(2));
    return cluster === undefined ? 0 : call.pushObject(new ClusterObject(cluster.info));
  },
});

interface Loaded {
  readonly vm: LuaVm;
  readonly onRoute: number;
}

function load(code: string): Loaded {
  const vm = new LuaVm();
  try {
    vm.load(code);
  } catch (error) {
    if (error instanceof LuaLoadError) throw new LuaLoadError(`script load error: ${error.message}`);
    throw error;
  }
  const onRoute = vm.globalFunction("envoy_on_route");
  if (onRoute === undefined) throw new LuaLoadError("envoy_on_route() function not found. Lua will not hook cluster specifier.");
  return { vm, onRoute };
}

function compile(message: LuaConfig, context: CompileContext): (headers: RequestHeaders) => string {
  const { defaultCluster } = message;
  const source = readDataSource(message.sourceCode, context)?.toString("utf8");
  if (source === undefined) return () => defaultCluster;
  let loaded: Loaded | undefined;
  try {
    loaded = load(source);
  } catch (error) {
    if (!(error instanceof LuaLoadError)) throw error;
    context.report(message, "source_code", { code: "OR5601", text: error.message });
    return () => defaultCluster;
  }
  const { clusters } = context;
  return (headers) => {
    if (loaded === undefined || loaded.vm.broken) {
      try {
        loaded = load(source);
      } catch {
        return defaultCluster;
      }
    }
    const coroutine = loaded.vm.coroutine(loaded.onRoute);
    coroutine.stack.pushOwned(coroutine, new RouteHandle(headers, clusters));
    const result = coroutine.resume(1);
    if (result.kind === "failed") {
      log.error(`script log: ${result.message}, use default cluster`);
      return defaultCluster;
    }
    if (result.kind === "suspended") {
      coroutine.drop();
      log.error("script log: script performed an unexpected yield, use default cluster");
      return defaultCluster;
    }
    if (result.returned !== undefined) return Buffer.from(result.returned, "latin1").toString("utf8");
    if (result.returnedType !== luaType.string) log.error("script log: return value is not string, use default cluster");
    return defaultCluster;
  };
}

export default {
  honours: { [typeName]: "*" },
  clusterSpecifier: {
    compile(message, context) {
      if (!isMessage<LuaConfig>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      return compile(message, context);
    },
  },
} satisfies Extension;
