/** Heads that filters have written into from outside (scripts, WebAssembly): what must not reach a codec. */
import type { RequestHeaders } from "./header-map.ts";

const name = /^:?[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** A tab and what is visible; bytes beyond ASCII are let through. */
const value = /^[\t\x20-\x7e\x80-\xff]*$/;
const notInPath = /[\x00-\x20\x7f]/;

export function isFieldName(text: string): boolean {
  return name.test(text);
}

/** A value without what would end its line. */
export function safeFieldValue(text: string): string {
  return value.test(text) ? text : text.replace(/[^\t\x20-\x7e\x80-\xff]/g, "");
}

/** What is wrong with a request's head, in Envoy's words, or undefined. */
export function malformedRequest(headers: RequestHeaders): string | undefined {
  if (headers.method === "") return "missing required header: :method";
  if (!name.test(headers.method)) return "invalid header value for: :method";
  if (headers.path !== undefined && notInPath.test(headers.path)) return "invalid header value for: :path";
  if (headers.authority !== undefined && !value.test(headers.authority)) return "invalid header value for: :authority";
  const { list } = headers;
  for (let i = 0; i < list.length; i += 2) {
    if (!name.test(list[i])) return `invalid header name: ${list[i]}`;
    if (!value.test(list[i + 1])) return `invalid header value for: ${list[i]}`;
  }
  return undefined;
}
