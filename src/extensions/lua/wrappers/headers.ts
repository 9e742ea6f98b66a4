/** headers() and trailers(): a header map for scripts. */
import { appendField, dropField, fieldEntries, writeField } from "../../../http/field-writing.ts";
import { type HeaderMap, ResponseHeaders } from "../../../http/header-map.ts";
import { type LuaCall, LuaError, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";

/** C strings end at the first zero byte. */
function cString(text: string): string {
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}
const keyOf = (call: LuaCall): string => call.string(2).toLowerCase();

export class LuaHeaders extends LuaObject {
  readonly map: HeaderMap;
  /** Asked before each change: whether it is (still) allowed. */
  readonly #mayChange: () => boolean;
  iterating = false;

  constructor(map: HeaderMap, mayChange: () => boolean) {
    super(headersClass);
    this.map = map;
    this.#mayChange = mayChange;
  }
  checkModifiable(): void {
    if (this.iterating) throw new LuaError("header map cannot be modified while iterating");
    if (!this.#mayChange()) throw new LuaError("header map can no longer be modified");
  }
}

/** A walk over the fields as they are when it begins: nothing changes while it lasts. */
export class HeadersIterator extends LuaObject {
  readonly headers: LuaHeaders;
  readonly entries: string[];
  next = 0;
  constructor(headers: LuaHeaders) {
    super(iteratorClass);
    this.headers = headers;
    this.entries = fieldEntries(headers.map);
  }
}

const iteratorClass = luaClass<HeadersIterator>("HeaderMapIterator", {});

function step(self: HeadersIterator, call: LuaCall): number {
  const { entries } = self;
  if (self.next >= entries.length || !self.headers.iterating) {
    self.headers.iterating = false;
    call.vm.forget(self);
    return 0;
  }
  call.pushString(entries[self.next]);
  call.pushString(entries[self.next + 1]);
  self.next += 2;
  return 2;
}

function setField(map: HeaderMap, name: string, value: string): void {
  if (!writeField(map, name, value)) throw new LuaError(":status must be a number of three digits");
}

export const headersClass = luaClass<LuaHeaders>("N5Envoy10Extensions11HttpFilters3Lua16HeaderMapWrapperE", {
  add(self, call) {
    self.checkModifiable();
    const name = cString(keyOf(call));
    if (!appendField(self.map, name, cString(call.string(3)))) throw new LuaError(":status must be a number of three digits");
    return 0;
  },
  get(self, call) {
    const values = self.map.getAll(keyOf(call));
    return values.length === 0 ? 0 : call.pushString(values.length === 1 ? values[0] : values.join(","));
  },
  getAtIndex(self, call) {
    const values = self.map.getAll(keyOf(call));
    const index = call.integer(3);
    return index >= 0 && index < values.length ? call.pushString(values[index]) : 0;
  },
  getNumValues(self, call) {
    return call.pushNumber(self.map.getAll(keyOf(call)).length);
  },
  remove(self, call) {
    self.checkModifiable();
    dropField(self.map, cString(keyOf(call)));
    return 0;
  },
  replace(self, call) {
    self.checkModifiable();
    const name = cString(keyOf(call));
    setField(self.map, name, cString(call.string(3)));
    return 0;
  },
  setHttp1ReasonPhrase(self, call) {
    self.checkModifiable();
    const phrase = call.string(2);
    if (self.map instanceof ResponseHeaders) self.map.reasonPhrase = phrase;
    return 0;
  },
  __pairs(self, call) {
    if (self.iterating) throw new LuaError("cannot create a second iterator before completing the first");
    self.iterating = true;
    return call.pushClosure(new HeadersIterator(self), step as never);
  },
});
