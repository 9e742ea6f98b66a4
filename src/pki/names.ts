/** The names a certificate is for: subject alternative names (RFC 5280 4.2.1.6) of the kinds that proxies look at. */
import { isIP } from "node:net";
import * as der from "./der.ts";

export interface SubjectName {
  readonly kind: "DNS" | "IP" | "URI" | "email";
  readonly value: string;
}

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;
const MOST_CHARACTERS = 2048;

/** An address, a URI (spiffe://...), an e-mail address or a DNS name (*.example.com too); undefined where it is none of them. */
export function parseName(text: string): SubjectName | undefined {
  if (isIP(text) !== 0) return text.includes("%") ? undefined : { kind: "IP", value: text };
  if (text.length > MOST_CHARACTERS || !/^[\x21-\x7e]+$/.test(text)) return undefined;
  if (/^[a-z][a-z0-9+.-]*:\/\/[^/]/i.test(text)) return URL.canParse(text) ? { kind: "URI", value: text } : undefined;
  if (/^[^@]+@[^@]+$/.test(text)) return isDnsName(text.slice(text.indexOf("@") + 1)) ? { kind: "email", value: text } : undefined;
  return isDnsName(text.startsWith("*.") ? text.slice(2) : text) ? { kind: "DNS", value: text.toLowerCase() } : undefined;
}

function isDnsName(text: string): boolean {
  // A last label of digits alone would be read as an address by some and as a name by others.
  return text.length <= 253 && text.split(".").every((label) => LABEL.test(label)) && !/(?:^|\.)[0-9]+$/.test(text);
}

/** 4 or 16 octets. */
export function addressBytes(address: string): Uint8Array {
  if (isIP(address) === 4) return Uint8Array.from(address.split(".").map(Number));
  const url = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head, tail] = url.split("::");
  const groups = (part: string | undefined): number[] => (part === undefined || part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const front = groups(head);
  const back = groups(tail);
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The GeneralName. */
export function encodeName({ kind, value }: SubjectName): Buffer {
  switch (kind) {
    case "email":
      return der.implicit(1, Buffer.from(value, "latin1"));
    case "DNS":
      return der.implicit(2, Buffer.from(value, "latin1"));
    case "URI":
      return der.implicit(6, Buffer.from(value, "latin1"));
    case "IP":
      return der.implicit(7, addressBytes(value));
  }
}
