/** metadata(), dynamicMetadata() and filterContext(): structures for scripts. */
import type { JsonObject } from "../../../config/message.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import { type LuaCall, LuaError, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";

/** One walk over keys and values. */
class Iterator extends LuaObject {
  readonly owner: { iterating: boolean };
  readonly entries: readonly (readonly [string, unknown])[];
  next = 0;
  constructor(owner: { iterating: boolean }, entries: readonly (readonly [string, unknown])[]) {
    super(iteratorClass);
    this.owner = owner;
    this.entries = entries;
  }
}
const iteratorClass = luaClass<Iterator>("MetadataMapIterator", {});

function step(self: Iterator, call: LuaCall): number {
  const entry = self.owner.iterating ? self.entries[self.next++] : undefined;
  if (entry === undefined) {
    self.owner.iterating = false;
    call.vm.forget(self);
    return 0;
  }
  return call.pushUtf8(entry[0]) + call.pushJson(entry[1]);
}

function pairs(owner: { iterating: boolean }, values: object, call: LuaCall): number {
  if (owner.iterating) throw new LuaError("cannot create a second iterator before completing the first");
  owner.iterating = true;
  return call.pushClosure(new Iterator(owner, Object.entries(values)), step as never);
}

function own(values: object, key: string): unknown {
  return Object.hasOwn(values, key) ? (values as Record<string, unknown>)[key] : undefined;
}

/** Metadata of the configuration: read only. */
export class LuaMetadata extends LuaObject {
  readonly values: JsonObject;
  iterating = false;
  constructor(values: JsonObject | undefined) {
    super(metadataClass);
    this.values = values ?? {};
  }
}
const metadataClass = luaClass<LuaMetadata>("N5Envoy10Extensions7Filters6Common3Lua18MetadataMapWrapperE", {
  get(self, call) {
    const value = own(self.values, call.utf8(2));
    return value === undefined ? 0 : call.pushJson(value);
  },
  __pairs: (self, call) => pairs(self, self.values, call),
});

export class LuaDynamicMetadata extends LuaObject {
  readonly info: StreamInfo;
  iterating = false;
  constructor(info: StreamInfo) {
    super(dynamicMetadataClass);
    this.info = info;
  }
  get values(): object {
    return this.info.hasDynamicMetadata ? this.info.dynamicMetadata : {};
  }
}
const reading = {
  get(self: LuaDynamicMetadata, call: LuaCall): number {
    const value = own(self.values, call.utf8(2));
    return value === undefined ? 0 : call.pushJson(value);
  },
  __pairs: (self: LuaDynamicMetadata, call: LuaCall): number => pairs(self, self.values, call),
};
const dynamicMetadataClass = luaClass<LuaDynamicMetadata>("N5Envoy10Extensions11HttpFilters3Lua25DynamicMetadataMapWrapperE", {
  ...reading,
  set(self, call) {
    if (self.iterating) throw new LuaError("dynamic metadata map cannot be modified while iterating");
    const filter = call.utf8(2);
    const key = call.utf8(3);
    self.info.setDynamicMetadata(filter, { [key]: call.toJson(4, "dynamicMetadata") } as JsonObject);
    return 0;
  },
});

/** Metadata that network filters and PROXY protocol left on the connection: read only. */
export class LuaConnectionMetadata extends LuaObject {
  readonly values: object;
  iterating = false;
  constructor(values: object) {
    super(connectionMetadataClass);
    this.values = values;
  }
}
const connectionMetadataClass = luaClass<LuaConnectionMetadata>("N5Envoy10Extensions11HttpFilters3Lua35ConnectionDynamicMetadataMapWrapperE", {
  get(self, call) {
    const value = own(self.values, call.utf8(2));
    return value === undefined ? 0 : call.pushJson(value);
  },
  __pairs: (self, call) => pairs(self, self.values, call),
});
