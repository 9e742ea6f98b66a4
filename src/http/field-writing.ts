/** Reading and writing heads for code that is not ours (scripts, WebAssembly): names and values may be anything. */
import { isFieldName, safeFieldValue } from "./field-rules.ts";
import { type HeaderMap, RequestHeaders, ResponseHeaders } from "./header-map.ts";

const requestPseudo = new Set([":authority", ":path", ":method", ":scheme", ":protocol"]);

/** Name, value, ... of all fields, pseudo-headers first. */
export function fieldEntries(map: HeaderMap): string[] {
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

/** Other pseudo-headers have no place in a head. */
function isSettable(map: HeaderMap, name: string): boolean {
  if (name.charCodeAt(0) !== 58) return name !== "";
  return map instanceof RequestHeaders ? requestPseudo.has(name) : map instanceof ResponseHeaders && name === ":status";
}

/** Replaces a field; false where a status is none. Requests are marked as unchecked, other heads take only what cannot end a line. `name` is lower case. */
export function writeField(map: HeaderMap, name: string, value: string): boolean {
  if (!isSettable(map, name)) return true;
  if (map instanceof RequestHeaders) {
    map.unchecked = true;
    map.set(name, value);
  } else if (name === ":status") {
    if (!/^[1-9]\d\d$/.test(value)) return false;
    map.set(name, value);
  } else if (isFieldName(name)) map.set(name, safeFieldValue(value));
  return true;
}

/** Appends a field; a pseudo-header is replaced. */
export function appendField(map: HeaderMap, name: string, value: string): boolean {
  if (name.charCodeAt(0) === 58 || name === "host") return writeField(map, name, value);
  if (map instanceof RequestHeaders) {
    map.unchecked = true;
    if (name !== "") map.add(name, value);
  } else if (isFieldName(name)) map.add(name, safeFieldValue(value));
  return true;
}

/** Removes a field. A pseudo-header of a request is empty then, which the router refuses where it needs one; the status of a response stays. */
export function dropField(map: HeaderMap, name: string): void {
  if (name === ":status") return;
  if (map instanceof RequestHeaders) {
    map.unchecked = true;
    if (name === "host") {
      map.authority = undefined;
      return;
    }
  }
  map.remove(name);
}
