/** IP address ranges (CidrRange), compiled to one lookup per address. */
import ipaddr from "ipaddr.js";
import type { CompileContext, Honours } from "../extensions/extension.ts";

export const honours: Honours = {
  "envoy.config.core.v3.CidrRange": "*",
  "xds.core.v3.CidrRange": "*",
  "envoy.type.matcher.v3.AddressMatcher": "*",
};

interface CidrMessage {
  readonly $typeName: string;
  readonly addressPrefix: string;
  readonly prefixLen?: number | undefined;
}

/** One range. Without a prefix length it is 0, as the field's default has it. */
export interface Cidr {
  readonly family: 4 | 6;
  readonly network: bigint;
  readonly length: number;
  /** "10.0.0.0/8" */
  readonly text: string;
}

/** The number of an address and its family; undefined where it is no IP address. IPv4-mapped IPv6 stays IPv6, as in Envoy. */
export function parseIp(text: string): { readonly family: 4 | 6; readonly value: bigint } | undefined {
  const zone = text.indexOf("%");
  const bare = zone < 0 ? text : text.slice(0, zone);
  if (ipaddr.IPv4.isValidFourPartDecimal(bare)) {
    let value = 0;
    for (const part of bare.split(".")) value = value * 256 + Number(part);
    return { family: 4, value: BigInt(value) };
  }
  if (!bare.includes(":") || !ipaddr.IPv6.isValid(bare)) return undefined;
  let value = 0n;
  for (const part of ipaddr.IPv6.parse(bare).parts) value = (value << 16n) | BigInt(part);
  return { family: 6, value };
}

/** Compiles a CidrRange; reports and gives undefined where it is none. */
export function compileCidr(message: CidrMessage, context: CompileContext): Cidr | undefined {
  const address = parseIp(message.addressPrefix);
  if (address === undefined) {
    context.report(message, "address_prefix", { code: "OR2111", text: `malformed IP address: ${message.addressPrefix}` });
    return undefined;
  }
  const bits = address.family === 4 ? 32 : 128;
  const length = Math.min(message.prefixLen ?? 0, bits);
  const shift = BigInt(bits - length);
  return { family: address.family, network: address.value >> shift, length, text: `${message.addressPrefix}/${length}` };
}

/** The network of an address, with its length: "10.0.0.0/8"; undefined where it is no IP address. */
export function maskAddress(ip: string, v4Length: number, v6Length: number): string | undefined {
  const address = parseIp(ip);
  if (address === undefined) return undefined;
  const bits = address.family === 4 ? 32 : 128;
  const length = Math.min(address.family === 4 ? v4Length : v6Length, bits);
  const shift = BigInt(bits - length);
  const bytes: number[] = [];
  for (let rest = (address.value >> shift) << shift, i = 0; i < bits / 8; i++, rest >>= 8n) bytes.unshift(Number(rest & 0xffn));
  const network = ipaddr.fromByteArray(bytes);
  return `${network instanceof ipaddr.IPv6 ? network.toRFC5952String() : network.toString()}/${length}`;
}

/** A set of ranges. */
export class CidrList {
  readonly #ranges: readonly Cidr[];
  constructor(ranges: readonly Cidr[]) {
    this.#ranges = ranges;
  }
  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }
  /** Whether the address (text form) is in one of the ranges. */
  contains(ip: string): boolean {
    if (this.#ranges.length === 0) return false;
    const address = parseIp(ip);
    if (address === undefined) return false;
    const bits = address.family === 4 ? 32 : 128;
    for (const range of this.#ranges) if (range.family === address.family && address.value >> BigInt(bits - range.length) === range.network) return true;
    return false;
  }
}

export function compileCidrList(messages: readonly CidrMessage[], context: CompileContext): CidrList {
  const ranges: Cidr[] = [];
  for (const message of messages) {
    const range = compileCidr(message, context);
    if (range !== undefined) ranges.push(range);
  }
  return new CidrList(ranges);
}
