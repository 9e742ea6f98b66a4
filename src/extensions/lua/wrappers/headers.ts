/** headers() and trailers(): a header map for scripts. */
import { isFieldName, safeFieldValue } from "../../../http/field-rules.ts";
import { type HeaderMap, RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
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
    this.entries = entriesOf(headers.map);
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

/** Name, value, ... of all fields, pseudo-headers first. */
export function entriesOf(map: HeaderMap): string[] {
  const entries: string[] = [];
  const add = (name: string, value: string | undefined): void => {
    if (value !== undefined && value !== "") entries.push(name, value);
  };
  if (map instanceof RequestHeaders) {
    add(":authority", map.authority);
    add(":path", map.path);
    add(":method", map.method);
    add(":scheme", map.scheme);
    add(":protocol", map.protocol);
  } else if (map instanceof ResponseHeaders) add(":status", String(map.status));
  entries.push(...map.list);
  return entries;
}

const requestPseudo = new Set([":authority", ":path", ":method", ":scheme", ":protocol"]);

/** Whether `name` can be set: other pseudo-headers have no place in a head. */
function settable(map: HeaderMap, name: string): boolean {
  if (name.charCodeAt(0) !== 58) return name !== "";
  return map instanceof RequestHeaders ? requestPseudo.has(name) : map instanceof ResponseHeaders && name === ":status";
}

export function setField(map: HeaderMap, name: string, value: string): void {
  if (!settable(map, name)) return;
  if (map instanceof RequestHeaders) {
    map.unchecked = true;
    map.set(name, value);
  } else if (name !== ":status") {
    if (isFieldName(name)) map.set(name, safeFieldValue(value));
  } else if (/^[1-9]\d\d$/.test(value)) map.set(name, value);
  else throw new LuaError(":status must be a number of three digits");
}

export function addField(map: HeaderMap, name: string, value: string): void {
  if (name.charCodeAt(0) === 58 || name === "host") setField(map, name, value);
  else if (map instanceof RequestHeaders) {
    map.unchecked = true;
    if (name !== "") map.add(name, value);
  } else if (isFieldName(name)) map.add(name, safeFieldValue(value));
}

/** Removing a pseudo-header leaves it empty; the router then refuses the request, or the status of a response stays. */
function removeField(map: HeaderMap, name: string): void {
  if (name === ":status") return;
  if (map instanceof RequestHeaders) map.unchecked = true;
  if (map instanceof RequestHeaders && name === "host") map.authority = undefined;
  else map.remove(name);
}

export const headersClass = luaClass<LuaHeaders>("N5Envoy10Extensions11HttpFilters3Lua16HeaderMapWrapperE", {
  add(self, call) {
    self.checkModifiable();
    const name = cString(keyOf(call));
    addField(self.map, name, cString(call.string(3)));
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
    removeField(self.map, cString(keyOf(call)));
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
