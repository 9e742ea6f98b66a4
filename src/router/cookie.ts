/** Cookies of a request. */
import type { HeaderMap } from "../http/header-map.ts";

/** The value of the first cookie of this name, without the quotes it may stand in; undefined where there is none. */
export function cookieValue(headers: HeaderMap, name: string): string | undefined {
  const list = headers.list;
  for (let i = 0; i < list.length; i += 2) {
    if (list[i] !== "cookie") continue;
    const line = list[i + 1];
    let at = 0;
    while (at < line.length) {
      let end = line.indexOf(";", at);
      if (end < 0) end = line.length;
      const equals = line.indexOf("=", at);
      if (equals >= 0 && equals < end && line.slice(at, equals).trimStart() === name) {
        let value = line.slice(equals + 1, end).trimEnd();
        if (value.length >= 2 && value.startsWith('"') && value.endsWith('"')) value = value.slice(1, -1);
        return value;
      }
      at = end + 1;
    }
  }
  return undefined;
}
