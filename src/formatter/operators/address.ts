/** Addresses in the forms operators print them. */
import { isIPv6 } from "node:net";
import type { Address } from "../../net/connection.ts";
import type { FormatContext } from "../formatter.ts";
import type { OperatorRow } from "./operator.ts";

/** The IP without brackets, or a pipe's path. */
export function withoutPort(address: Address): string {
  return address.kind === "ip" ? address.ip : address.text;
}

/** 16 or 4 bytes of an address that is known to be valid. */
function bytesOf(ip: string): Uint8Array {
  if (!isIPv6(ip)) return Uint8Array.from(ip.split("."), Number);
  const bytes = new Uint8Array(16);
  let textPart = ip.split("%")[0];
  const lastColon = textPart.lastIndexOf(":");
  if (textPart.includes(".", lastColon)) {
    const [a, b, c, d] = textPart
      .slice(lastColon + 1)
      .split(".")
      .map(Number);
    textPart = `${textPart.slice(0, lastColon + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head, tail] = textPart.split("::");
  const groups = (part: string | undefined): number[] => (part === undefined || part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)));
  const first = groups(head);
  const last = groups(tail);
  const all = tail === undefined ? first : [...first, ...new Array<number>(Math.max(0, 8 - first.length - last.length)).fill(0), ...last];
  for (let i = 0; i < 8; i++) {
    bytes[i * 2] = all[i] >> 8;
    bytes[i * 2 + 1] = all[i] & 255;
  }
  return bytes;
}

/** RFC 5952: the longest run of two or more zero groups becomes "::". */
function formatV6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i] << 8) | bytes[i + 1]);
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLength) {
      bestStart = i;
      bestLength = j - i;
    }
    if (j > i) i = j;
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  return bestStart < 0 ? hex(groups) : `${hex(groups.slice(0, bestStart))}::${hex(groups.slice(bestStart + bestLength))}`;
}

/** The network an address lies in: "10.1.2.0/24". A pipe has none. */
export function maskAddress(address: Address, prefixLength: number): string | undefined {
  if (address.kind !== "ip") return undefined;
  const bytes = bytesOf(address.ip);
  const length = Math.min(prefixLength, bytes.length * 8);
  for (let i = 0; i < bytes.length; i++) {
    const keep = Math.max(0, Math.min(8, length - i * 8));
    bytes[i] &= (0xff00 >> keep) & 255;
  }
  return `${bytes.length === 4 ? bytes.join(".") : formatV6(bytes)}/${length}`;
}

/** `..._WITHOUT_PORT`, with a prefix length as argument: the network only. */
export function withoutPortRow(read: (context: FormatContext) => Address | undefined): OperatorRow {
  return {
    parameters: "optional",
    make(argument) {
      if (/^[0-9]{1,3}$/.test(argument)) {
        const prefixLength = Number(argument);
        return {
          text(context) {
            const address = read(context);
            return address === undefined ? undefined : maskAddress(address, prefixLength);
          },
        };
      }
      return {
        text(context) {
          const address = read(context);
          return address === undefined ? undefined : withoutPort(address);
        },
      };
    },
  };
}
