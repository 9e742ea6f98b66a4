/**
 * HTTP/1 heads: from one latin1 string to fields, strictly (RFC 9112 sections 2 to 5), with Envoy's choices where the RFC leaves one: a lone LF ends
 * a line of a head, obs-fold is unfolded, raw bytes above 0x7f are refused in a target and passed in a value.
 */

/** Why a head is refused: details as Envoy's response code details name it. */
export class HeadError extends Error {
  readonly status: number;
  readonly details: string;
  constructor(details: string, status = 400) {
    super(details);
    this.status = status;
    this.details = details;
  }
}

export interface Fields {
  /** name (lower case), value, ... */
  list: string[];
  rawNames: string[] | undefined;
}

/** Common names by every spelling seen in practice: a look-up yields an interned lower-case string, so that comparing is comparing pointers. */
const known = new Map<string, string>();
for (const name of [
  "accept",
  "accept-encoding",
  "accept-language",
  "authorization",
  "cache-control",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "cookie",
  "date",
  "etag",
  "expect",
  "expires",
  "host",
  "if-modified-since",
  "if-none-match",
  "keep-alive",
  "last-modified",
  "location",
  "origin",
  "pragma",
  "proxy-connection",
  "range",
  "referer",
  "sec-fetch-dest",
  "sec-fetch-mode",
  "sec-fetch-site",
  "server",
  "set-cookie",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "upgrade-insecure-requests",
  "user-agent",
  "vary",
  "via",
  "x-envoy-upstream-service-time",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
  "accept-ranges",
]) {
  known.set(name, name);
  known.set(
    name.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase()),
    name,
  );
}

/** 1: token character (RFC 9110 5.6.2). */
const tokenChar = new Uint8Array(256);
for (const c of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") tokenChar[c.charCodeAt(0)] = 1;

export function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (tokenChar[text.charCodeAt(i)] !== 1) return false;
  return text.length > 0;
}

/** A control character other than HTAB, or DEL, anywhere. */
const badValue = /[\x00-\x08\x0a-\x1f\x7f]/;
const badTarget = /[^\x21-\x7e]/;

/** Where the head that begins at `from` ends: the index behind its empty line, or -1 when it has not all arrived. */
export function headEnd(text: string, from: number): number {
  let at = from;
  for (;;) {
    const lf = text.indexOf("\n", at);
    if (lf < 0) return -1;
    if (lf === at || (lf === at + 1 && text.charCodeAt(at) === 13)) return lf + 1;
    at = lf + 1;
  }
}

/**
 * Parses the field lines from `at` up to the empty line. `keepNames`: keep the spelling. Throws HeadError; more than `maxCount` fields is
 * `tooMany` with status 431 (0 where the caller maps it otherwise).
 */
export function parseFields(text: string, at: number, end: number, maxCount: number, keepNames: boolean): Fields {
  const list: string[] = [];
  const rawNames: string[] | undefined = keepNames ? [] : undefined;
  let last = "";
  while (at < end) {
    let lf = text.indexOf("\n", at);
    if (lf < 0 || lf > end) lf = end;
    let stop = lf > at && text.charCodeAt(lf - 1) === 13 ? lf - 1 : lf;
    if (stop === at) break;
    // CR CR LF ends a line too: the first CR is white space behind the value.
    while (stop > at && text.charCodeAt(stop - 1) === 13) stop--;
    const first = text.charCodeAt(at);
    if (first === 32 || first === 9) {
      // obs-fold (RFC 9112 5.2): joined to the value before it with a space.
      if (list.length === 0) throw new HeadError("http1.codec_error");
      while (at < stop && (text.charCodeAt(at) === 32 || text.charCodeAt(at) === 9)) at++;
      while (stop > at && (text.charCodeAt(stop - 1) === 32 || text.charCodeAt(stop - 1) === 9)) stop--;
      const more = text.slice(at, stop);
      if (badValue.test(more)) throw new HeadError("http1.codec_error");
      if (last === "transfer-encoding" || last === "content-length" || last === "host") throw new HeadError("http1.codec_error");
      const joined = list[list.length - 1];
      list[list.length - 1] = joined === "" ? more : more === "" ? joined : `${joined} ${more}`;
      at = lf + 1;
      continue;
    }
    const colon = text.indexOf(":", at);
    if (colon < 0 || colon >= stop || colon === at) throw new HeadError("http1.codec_error");
    const raw = text.slice(at, colon);
    let name = known.get(raw);
    if (name === undefined) {
      for (let i = at; i < colon; i++) if (tokenChar[text.charCodeAt(i)] !== 1) throw new HeadError("http1.codec_error");
      name = raw.toLowerCase();
    }
    let from = colon + 1;
    while (from < stop && (text.charCodeAt(from) === 32 || text.charCodeAt(from) === 9)) from++;
    while (stop > from && (text.charCodeAt(stop - 1) === 32 || text.charCodeAt(stop - 1) === 9)) stop--;
    const value = text.slice(from, stop);
    if (badValue.test(value)) throw new HeadError("http1.codec_error");
    list.push(name, value);
    rawNames?.push(raw);
    last = name;
    if (list.length > maxCount * 2) throw new HeadError("http1.too_many_headers", 431);
    at = lf + 1;
  }
  return { list, rawNames };
}

export interface RequestLine {
  readonly method: string;
  readonly target: string;
  /** 0 or 1: the minor version of HTTP/1. */
  readonly minor: number;
}

/** Methods that are let through: those registered (RFC 9110, WebDAV, UPnP). Others only with allow_custom_methods. */
const methods: ReadonlySet<string> = new Set([
  "ACL",
  "BIND",
  "CHECKOUT",
  "CONNECT",
  "COPY",
  "DELETE",
  "GET",
  "HEAD",
  "LINK",
  "LOCK",
  "M-SEARCH",
  "MERGE",
  "MKACTIVITY",
  "MKCALENDAR",
  "MKCOL",
  "MOVE",
  "NOTIFY",
  "OPTIONS",
  "PATCH",
  "POST",
  "PROPFIND",
  "PROPPATCH",
  "PURGE",
  "PUT",
  "REBIND",
  "REPORT",
  "SEARCH",
  "SOURCE",
  "SUBSCRIBE",
  "TRACE",
  "UNBIND",
  "UNLINK",
  "UNLOCK",
  "UNSUBSCRIBE",
]);

/** A request line with more white space than one SP between its parts, or some behind them: read leniently, sent on clean (RFC 9112 3). */
const lenientLine = /^([!-~]+)[ \t]+([!-~]+)[ \t]+(HTTP\/[0-9]\.[0-9])[ \t]*$/;

/** `METHOD SP target SP HTTP/1.x` (RFC 9112 3), without the line end. Another version, or none, is answered 426. */
export function parseRequestLine(line: string, customMethods: boolean): RequestLine {
  const first = line.indexOf(" ");
  const second = line.indexOf(" ", first + 1);
  let method = line.slice(0, first);
  let target = line.slice(first + 1, second);
  let version = line.slice(second + 1);
  if (first <= 0 || second < 0 || (version !== "HTTP/1.1" && version !== "HTTP/1.0")) {
    const lenient = lenientLine.exec(line);
    if (lenient === null) {
      // Two parts: HTTP/0.9, or a line that was broken in two.
      if (/^[!-~]+[ \t]+[!-~]+$/.test(line) && isToken(line.slice(0, line.search(/[ \t]/)))) throw new HeadError("low_version", 426);
      throw new HeadError("http1.codec_error");
    }
    [, method, target, version] = lenient;
    if (!methods.has(method) && !(customMethods && isToken(method))) throw new HeadError("http1.codec_error");
    if (version !== "HTTP/1.1" && version !== "HTTP/1.0") throw new HeadError("low_version", 426);
  }
  if (badTarget.test(target) || target === "" || !(methods.has(method) || (customMethods && isToken(method)))) throw new HeadError("http1.codec_error");
  return { method, target, minor: version === "HTTP/1.1" ? 1 : 0 };
}

/** What can be told of a head whose end is not there yet: that it will never be one. */
export function checkHeadStart(text: string): void {
  if (tokenChar[text.charCodeAt(0)] !== 1) throw new HeadError("http1.codec_error");
  const lf = text.indexOf("\n");
  if (lf < 0) return;
  const line = text.slice(0, text.charCodeAt(lf - 1) === 13 ? lf - 1 : lf);
  if (!/HTTP\/[0-9]\.[0-9][ \t]*$/.test(line)) parseRequestLine(line, true);
}

export interface StatusLine {
  readonly status: number;
  readonly minor: number;
}

/** `HTTP/1.x SP 3DIGIT [SP reason]` (RFC 9112 4). */
export function parseStatusLine(line: string): StatusLine {
  // RFC 9110 2.5: a higher version than ours is read as ours.
  const match = /^HTTP\/([0-9]\.[0-9]) ([0-9]{3})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?$/.exec(line);
  if (match === null) throw new HeadError("http1.codec_error", 502);
  const status = Number(match[2]);
  if (status < 100) throw new HeadError("http1.codec_error", 502);
  return { status, minor: match[1] === "1.0" || match[1].startsWith("0") ? 0 : 1 };
}

export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "until_close" };

const none: Framing = { kind: "none" };
const chunked: Framing = { kind: "chunked" };

/** RFC 9112 6.3 with Envoy's strictness: Content-Length beside Transfer-Encoding, or either twice, is refused. undefined: the message names no length. */
export function messageFraming(list: readonly string[], allowChunkedLength: boolean): Framing | undefined {
  let length: string | undefined;
  let lengths = 0;
  let encoding: string | undefined;
  let encodings = 0;
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i];
    if (name === "content-length") {
      lengths++;
      length = list[i + 1];
    } else if (name === "transfer-encoding") {
      encodings++;
      encoding = list[i + 1];
    }
  }
  if (encodings === 0 && lengths === 0) return undefined;
  if (encodings > 0) {
    if (lengths > 0 && !allowChunkedLength) throw new HeadError("http1.content_length_and_chunked_not_allowed");
    if (encodings > 1 || encoding === undefined || encoding.toLowerCase() !== "chunked") throw new HeadError("http1.invalid_transfer_encoding", 501);
    return chunked;
  }
  if (lengths > 1 || length === undefined || !/^[0-9]{1,19}$/.test(length)) throw new HeadError("http1.codec_error");
  const bytes = Number(length);
  if (!Number.isSafeInteger(bytes)) throw new HeadError("http1.codec_error");
  return bytes === 0 ? none : { kind: "length", length: bytes };
}

/** Removes hop-by-hop fields that Connection names, and the connection fields themselves (RFC 9110 7.6.1). `keepUpgrade`: an upgrade is asked for. */
export function nominatedByConnection(list: readonly string[]): string[] | undefined {
  let found: string[] | undefined;
  for (let i = 0; i < list.length; i += 2) {
    if (list[i] !== "connection") continue;
    const value = list[i + 1];
    // By far the most common values.
    if (value === "keep-alive" || value === "Keep-Alive" || value === "close") continue;
    for (const part of value.split(",")) {
      const token = part.trim().toLowerCase();
      if (token !== "" && token !== "close" && token !== "keep-alive" && token !== "upgrade") (found ??= []).push(token);
    }
  }
  return found;
}

/** Whether a comma-separated list in any field of this name has the token. */
export function hasToken(list: readonly string[], name: string, token: string): boolean {
  for (let i = 0; i < list.length; i += 2) {
    if (list[i] !== name) continue;
    const value = list[i + 1];
    if (value.length === token.length ? value.toLowerCase() === token : value.split(",").some((part) => part.trim().toLowerCase() === token)) return true;
  }
  return false;
}

const reasons: Record<number, string> = {
  100: "Continue",
  101: "Switching Protocols",
  102: "Processing",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  203: "Non-Authoritative Information",
  204: "No Content",
  205: "Reset Content",
  206: "Partial Content",
  207: "Multi-Status",
  208: "Already Reported",
  226: "IM Used",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  305: "Use Proxy",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Payload Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  421: "Misdirected Request",
  422: "Unprocessable Entity",
  423: "Locked",
  424: "Failed Dependency",
  425: "Too Early",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  506: "Variant Also Negotiates",
  507: "Insufficient Storage",
  508: "Loop Detected",
  510: "Not Extended",
  511: "Network Authentication Required",
};
export function reasonPhrase(status: number): string {
  return reasons[status] ?? "Unknown";
}
