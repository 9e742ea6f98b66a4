/** What envoy_on_route may look at. */
import type { RequestHeaders } from "../../../http/header-map.ts";
import type { ClusterInfo, ResourceName } from "../../../upstream/upstream.ts";
import { type LuaCall, LuaObject } from "../../lua/vm.ts";
import { luaClass } from "../../lua/wrappers/define.ts";

export class ReadOnlyHeaders extends LuaObject {
  readonly map: RequestHeaders;
  constructor(map: RequestHeaders) {
    super(headersClass);
    this.map = map;
  }
}
const headersClass = luaClass<ReadOnlyHeaders>("N5Envoy10Extensions6Router3Lua16HeaderMapWrapperE", {
  get(self, call) {
    const values = self.map.getAll(call.string(2).toLowerCase());
    return values.length === 0 ? 0 : call.pushString(values.join(","));
  },
});

export class ClusterObject extends LuaObject {
  readonly info: ClusterInfo;
  constructor(info: ClusterInfo) {
    super(clusterClass);
    this.info = info;
  }
}
const inUse = (what: ResourceName) => (self: ClusterObject, call: LuaCall) =>
  call.pushNumber(self.info.resourceManager("default").inUse(what) + self.info.resourceManager("high").inUse(what));
const clusterClass = luaClass<ClusterObject>("N5Envoy10Extensions6Router3Lua14ClusterWrapperE", {
  numConnections: inUse("connections"),
  numRequests: inUse("requests"),
  numPendingRequests: inUse("pending"),
});
