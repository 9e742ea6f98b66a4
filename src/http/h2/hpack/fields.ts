/**
 * Fields as HPACK tables hold them. What is known of a name or value is found out once, when the field is made, and travels with it: a field that is named
 * by its index again and again is not looked at again.
 */

/** What a name means to HTTP/2 (RFC 9113 8.2, 8.3). */
export const nameKind = {
  ordinary: 0,
  /** No token, or with upper case letters. */
  invalid: 1,
  method: 2,
  path: 3,
  authority: 4,
  scheme: 5,
  status: 6,
  protocol: 7,
  /** A pseudo-header that nobody knows. */
  otherPseudo: 8,
  /** connection, keep-alive, proxy-connection, transfer-encoding, upgrade: must not be sent. */
  connection: 9,
  te: 10,
  cookie: 11,
  contentLength: 12,
  host: 13,
} as const;
export type NameKind = (typeof nameKind)[keyof typeof nameKind];

const known: ReadonlyMap<string, NameKind> = new Map<string, NameKind>([
  [":method", nameKind.method],
  [":path", nameKind.path],
  [":authority", nameKind.authority],
  [":scheme", nameKind.scheme],
  [":status", nameKind.status],
  [":protocol", nameKind.protocol],
  ["connection", nameKind.connection],
  ["keep-alive", nameKind.connection],
  ["proxy-connection", nameKind.connection],
  ["transfer-encoding", nameKind.connection],
  ["upgrade", nameKind.connection],
  ["te", nameKind.te],
  ["cookie", nameKind.cookie],
  ["content-length", nameKind.contentLength],
  ["host", nameKind.host],
]);

/** 1 for the characters of a field name (RFC 9110 5.1 with RFC 9113 8.2.1: no upper case). */
const nameCharacters = new Uint8Array(256);
for (const character of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") nameCharacters[character.charCodeAt(0)] = 1;

export function kindOfName(name: string): NameKind {
  const kind = known.get(name);
  if (kind !== undefined) return kind;
  const { length } = name;
  if (length === 0) return nameKind.invalid;
  if (name.charCodeAt(0) === 58) return nameKind.otherPseudo;
  for (let i = 0; i < length; i++) if (nameCharacters[name.charCodeAt(i)] === 0) return nameKind.invalid;
  return nameKind.ordinary;
}

/** Control characters other than tab have no place in a value. */
export function isValidValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if ((code < 0x20 && code !== 9) || code === 0x7f) return false;
  }
  return true;
}

export class Field {
  readonly name: string;
  readonly value: string;
  readonly kind: NameKind;
  readonly validValue: boolean;

  constructor(name: string, value: string, kind: NameKind, validValue: boolean) {
    this.name = name;
    this.value = value;
    this.kind = kind;
    this.validValue = validValue;
  }

  /** As RFC 7541 4.1 counts it. */
  get size(): number {
    return this.name.length + this.value.length + entryOverhead;
  }
}

/** What an entry weighs beyond its octets (RFC 7541 4.1). */
export const entryOverhead = 32;

/** RFC 7541 appendix A; "name" or "name value". */
const listed =
  ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|:status 206|:status 304|:status 400|" +
  ":status 404|:status 500|accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|" +
  "authorization|cache-control|content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|" +
  "date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|" +
  "proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|" +
  "vary|via|www-authenticate";

/** Entry i of the table is at i - 1. */
export const staticTable: readonly Field[] = listed.split("|").map((line) => {
  const space = line.indexOf(" ");
  const name = space < 0 ? line : line.slice(0, space);
  return new Field(name, space < 0 ? "" : line.slice(space + 1), kindOfName(name), true);
});
