/**
 * PROXY protocol headers (haproxy.org/download/3.0/doc/proxy-protocol.txt), read as Envoy reads them. The input may be cut anywhere;
 * nothing of it is trusted.
 */
import { isIPv4, isIPv6 } from "node:net";
import { ipAddress } from "../../../net/address.ts";
import type { Address } from "../../../net/connection.ts";

export interface Tlv {
  readonly type: number;
  readonly value: Buffer;
}

export type ProxyHeader =
  | {
      readonly kind: "found";
      readonly version: 1 | 2;
      /** Bytes of the whole header. */
      readonly length: number;
      /** undefined: LOCAL or UNKNOWN, the connection's own addresses hold. */
      readonly source: Address | undefined;
      readonly destination: Address | undefined;
      readonly tlvs: readonly Tlv[];
    }
  | { readonly kind: "need_more" }
  /** `version` 0: these bytes are no header of either kind. */
  | { readonly kind: "error"; readonly version: 0 | 1 | 2; readonly why: string };

const signatureV1 = Buffer.from("PROXY ");
const signatureV2 = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
/** The longest line of version 1, its end included. */
const maxV1 = 107;
const headV2 = 16;
/** The longest header of version 2: its length field has 16 bits. */
export const maxHeaderBytes = headV2 + 65535;

const more: ProxyHeader = { kind: "need_more" };
const error = (version: 0 | 1 | 2, why: string): ProxyHeader => ({ kind: "error", version, why });

/** Whether these first bytes can still become a header. */
export function mayBeHeader(bytes: Buffer): boolean {
  return startsLike(bytes, signatureV1) || startsLike(bytes, signatureV2);
}

function startsLike(bytes: Buffer, signature: Buffer): boolean {
  const length = Math.min(bytes.length, signature.length);
  return bytes.compare(signature, 0, length, 0, length) === 0;
}

export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length >= headV2 && startsLike(bytes, signatureV2)) return parseV2(bytes);
  const end = bytes.subarray(0, maxV1).indexOf("\r\n");
  // A line end at the very beginning can only be the binary signature's.
  if (end > 0)
    return startsLike(bytes, signatureV1) && end >= signatureV1.length ? parseV1(bytes.toString("latin1", 0, end), end + 2) : error(0, "no PROXY header");
  if (bytes.length >= maxV1 && end < 0) return error(startsLike(bytes, signatureV1) ? 1 : 0, "no line end");
  if (end === 0 && bytes.length >= headV2) return error(0, "no PROXY header");
  return more;
}

function parseV1(line: string, length: number): ProxyHeader {
  const parts = line.split(" ");
  if (parts[1] === "UNKNOWN") return { kind: "found", version: 1, length, source: undefined, destination: undefined, tlvs: [] };
  if (parts.length !== 6 || (parts[1] !== "TCP4" && parts[1] !== "TCP6")) return error(1, "failed to read proxy protocol");
  const [, family, from, to, fromPort, toPort] = parts;
  const good = family === "TCP4" ? isIPv4 : isIPv6;
  const source = portOf(fromPort);
  const destination = portOf(toPort);
  if (!good(from) || !good(to) || source === undefined || destination === undefined) return error(1, "failed to parse an address");
  return usable(1, length, ipAddress(from, source), ipAddress(to, destination), []);
}

function portOf(text: string): number | undefined {
  if (!/^\+?\d{1,9}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65535 ? port : undefined;
}

/** Clients do not come from everywhere, nor from many. */
function usable(version: 1 | 2, length: number, source: Address, destination: Address, tlvs: readonly Tlv[]): ProxyHeader {
  if (!isUnicast(source) || !isUnicast(destination)) return error(version, "the address is no unicast address");
  return { kind: "found", version, length, source, destination, tlvs };
}

function isUnicast(address: Address): boolean {
  if (address.kind !== "ip") return false;
  if (address.family === 6) return address.ip !== "::" && !/^ff[0-9a-f]{2}:/i.test(address.ip);
  const first = Number(address.ip.slice(0, address.ip.indexOf(".")));
  return address.ip !== "0.0.0.0" && address.ip !== "255.255.255.255" && !(first >= 224 && first < 240);
}

function parseV2(bytes: Buffer): ProxyHeader {
  const command = bytes[12];
  if (command >> 4 !== 2) return error(2, "unsupported V2 proxy protocol version");
  const rest = bytes.readUInt16BE(14);
  const length = headV2 + rest;
  const family = bytes[13] >> 4;
  const transport = bytes[13] & 0x0f;
  if ((command & 0x0f) === 0) {
    // LOCAL: whatever else is there is passed over.
    return bytes.length < length ? more : { kind: "found", version: 2, length, source: undefined, destination: undefined, tlvs: [] };
  }
  if ((command & 0x0f) !== 1) return error(2, "unsupported V2 proxy protocol command");
  if ((transport !== 1 && transport !== 2) || (family !== 1 && family !== 2)) return error(2, "unsupported V2 proxy protocol address family");
  const size = family === 1 ? 4 : 16;
  if (rest < size * 2 + 4) return error(2, "V2 proxy protocol header too short");
  if (bytes.length < length) return more;
  const at = headV2;
  const ports = at + size * 2;
  const source = ipAddress(ipText(bytes.subarray(at, at + size)), bytes.readUInt16BE(ports));
  const destination = ipAddress(ipText(bytes.subarray(at + size, ports)), bytes.readUInt16BE(ports + 2));
  const tlvs = parseTlvs(bytes.subarray(ports + 4, length));
  return tlvs === undefined ? error(2, "V2 proxy protocol extension out of bounds") : usable(2, length, source, destination, tlvs);
}

function parseTlvs(bytes: Buffer): Tlv[] | undefined {
  const found: Tlv[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 3 > bytes.length) return undefined;
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    if (end > bytes.length) return undefined;
    found.push({ type: bytes[at], value: Buffer.from(bytes.subarray(at + 3, end)) });
    at = end;
  }
  return found;
}

/** The usual text of an address (RFC 5952: the longest run of zero groups is "::"). */
function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".");
  const words: number[] = [];
  for (let i = 0; i < 16; i += 2) words.push(bytes.readUInt16BE(i));
  if (words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff) return `::ffff:${bytes.subarray(12).join(".")}`;
  let from = -1;
  let best = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > best) {
      best = end - i;
      from = i;
    }
  }
  const text = (list: readonly number[]): string => list.map((word) => word.toString(16)).join(":");
  return from < 0 ? text(words) : `${text(words.slice(0, from))}::${text(words.slice(from + best))}`;
}
