/** streamInfo(), connection(), connectionStreamInfo(), route() and virtualHost(). */
import type { JsonObject } from "../../../config/message.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import { TextFilterState } from "../../../http/text-filter-state.ts";
import type { Address, TlsInfo } from "../../../net/connection.ts";
import { type LuaCall, LuaError, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";
import { LuaConnectionMetadata, LuaDynamicMetadata, LuaMetadata } from "./metadata.ts";
import { LuaTls } from "./tls.ts";

/** Factories that make an object of filter state from text. What they make reads as the text. */
const textFactories = new Set([
  "envoy.string",
  "envoy.hashable_string",
  "envoy.network.upstream_server_name",
  "envoy.network.application_protocols",
  "envoy.network.upstream_subject_alt_names",
  "envoy.network.ip",
  "envoy.tcp_proxy.cluster",
  "envoy.tcp_proxy.disable_tunneling",
  "envoy.upstream.dynamic_host",
  "envoy.upstream.dynamic_port",
  "envoy.filters.listener.original_dst.local_ip",
  "envoy.filters.listener.original_dst.remote_ip",
  "envoy.network.transport_socket.original_dst_address",
  "envoy.ratelimit.hits_addend",
]);

export class LuaStreamInfo extends LuaObject {
  readonly info: StreamInfo;
  #metadata: LuaDynamicMetadata | undefined = undefined;
  constructor(info: StreamInfo) {
    super(streamInfoClass);
    this.info = info;
  }
  /** One object, so that it knows of an iteration that is under way. */
  get metadata(): LuaDynamicMetadata {
    this.#metadata ??= new LuaDynamicMetadata(this.info);
    return this.#metadata;
  }
}

const address = (read: (info: StreamInfo) => Address | undefined) => (self: LuaStreamInfo, call: LuaCall) => call.pushString(read(self.info)?.text ?? "");

const streamInfoClass = luaClass<LuaStreamInfo>("N5Envoy10Extensions11HttpFilters3Lua17StreamInfoWrapperE", {
  protocol: (self, call) => call.pushString(self.info.protocol ?? ""),
  routeName: (self, call) => call.pushUtf8(self.info.route?.name ?? self.info.routeName),
  virtualClusterName: (self, call) => call.pushUtf8(self.info.virtualClusterName ?? ""),
  downstreamLocalAddress: address((info) => info.downstreamLocalAddress),
  downstreamDirectLocalAddress: address((info) => info.downstreamDirectLocalAddress ?? info.downstreamLocalAddress),
  downstreamRemoteAddress: address((info) => info.downstreamRemoteAddress),
  downstreamDirectRemoteAddress: address((info) => info.downstreamDirectRemoteAddress),
  downstreamSslConnection(self, call) {
    const tls = self.info.downstreamTls;
    return tls === undefined ? call.pushNil() : call.pushObject(new LuaTls(tls));
  },
  requestedServerName: (self, call) => call.pushString(self.info.requestedServerName),
  dynamicMetadata: (self, call) => call.pushObject(self.metadata),
  // Typed metadata is left by extensions in memory of their own; there is none that scripts could read.
  dynamicTypedMetadata(_self, call) {
    call.string(2);
    return 0;
  },
  filterState: (self, call) => call.pushObject(new LuaFilterState(self.info)),
  drainConnectionUponCompletion(self) {
    self.info.drainConnectionUponCompletion = true;
    return 0;
  },
});

class LuaFilterState extends LuaObject {
  readonly info: StreamInfo;
  constructor(info: StreamInfo) {
    super(filterStateClass);
    this.info = info;
  }
}
const filterStateClass = luaClass<LuaFilterState>("N5Envoy10Extensions11HttpFilters3Lua18FilterStateWrapperE", {
  get(self, call) {
    const object = self.info.getFilterState(call.utf8(2));
    if (object === undefined) return 0;
    const field = call.optionalString(3);
    if (field !== undefined) {
      const value = object.field?.(field);
      return value === undefined ? 0 : typeof value === "number" ? call.pushNumber(value) : call.pushUtf8(value);
    }
    const text = object.serializeAsString();
    return text === undefined ? 0 : call.pushUtf8(text);
  },
  set(self, call) {
    const key = call.utf8(2);
    const factory = call.utf8(3);
    const value = call.utf8(4);
    if (!textFactories.has(factory)) throw new LuaError(`'${factory}' does not have an object factory`);
    self.info.setFilterState(key, new TextFilterState(value));
    return 0;
  },
});

export class LuaConnection extends LuaObject {
  readonly tls: TlsInfo | undefined;
  constructor(tls: TlsInfo | undefined) {
    super(connectionClass);
    this.tls = tls;
  }
}
const connectionClass = luaClass<LuaConnection>("N5Envoy10Extensions7Filters6Common3Lua17ConnectionWrapperE", {
  ssl(self, call) {
    return self.tls === undefined ? call.pushNil() : call.pushObject(new LuaTls(self.tls));
  },
});

export class LuaConnectionStreamInfo extends LuaObject {
  readonly metadata: LuaConnectionMetadata;
  constructor(metadata: object) {
    super(connectionStreamInfoClass);
    this.metadata = new LuaConnectionMetadata(metadata);
  }
}
const connectionStreamInfoClass = luaClass<LuaConnectionStreamInfo>("N5Envoy10Extensions11HttpFilters3Lua27ConnectionStreamInfoWrapperE", {
  dynamicMetadata: (self, call) => call.pushObject(self.metadata),
  dynamicTypedMetadata(_self, call) {
    call.string(2);
    return 0;
  },
});

/** route() and virtualHost(): what is there to see of both is their metadata for this filter. */
export class LuaRouteLevel extends LuaObject {
  readonly #values: JsonObject | undefined;
  #metadata: LuaMetadata | undefined = undefined;
  constructor(values: JsonObject | undefined) {
    super(routeLevelClass);
    this.#values = values;
  }
  get metadata(): LuaMetadata {
    this.#metadata ??= new LuaMetadata(this.#values);
    return this.#metadata;
  }
}
const routeLevelClass = luaClass<LuaRouteLevel>("N5Envoy10Extensions11HttpFilters3Lua12RouteWrapperE", {
  metadata: (self, call) => call.pushObject(self.metadata),
});
