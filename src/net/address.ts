/** Addresses: from configuration messages and sockets, to text as Envoy prints it. */
import { isIPv4, isIPv6 } from "node:net";
import type { Address as AddressMessage } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { Address } from "./connection.ts";

export function ipAddress(ip: string, port: number): Address {
  // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; they are IPv4 addresses.
  if (ip.startsWith("::ffff:") && isIPv4(ip.slice(7))) ip = ip.slice(7);
  if (isIPv4(ip)) return { kind: "ip", ip, port, family: 4, text: `${ip}:${port}` };
  return { kind: "ip", ip, port, family: 6, text: `[${ip}]:${port}` };
}

export function pipeAddress(path: string): Address {
  return { kind: "pipe", path, text: path };
}

/** What a socket without a name has (a Unix socket's client side). */
export const anonymousPipe: Address = { kind: "pipe", path: "", text: "" };

/** Envoy's asString: "127.0.0.1:80", "[::1]:80", a socket's path. */
export function formatAddress(address: Address): string {
  return address.text;
}

/** The IP without a port, or the path. */
export function addressWithoutPort(address: Address): string {
  return address.kind === "ip" ? address.ip : address.path;
}

/** A literal IP (or a pipe) from a message; undefined when it is no literal (a DNS name, a named port, another kind). */
export function parseAddressMessage(message: AddressMessage | undefined): Address | undefined {
  const address = message?.address;
  if (address?.case === "pipe") return pipeAddress(address.value.path);
  if (address?.case !== "socketAddress") return undefined;
  const { address: ip, portSpecifier } = address.value;
  if (!isIPv4(ip) && !isIPv6(ip)) return undefined;
  return ipAddress(ip, portSpecifier.case === "portValue" ? portSpecifier.value : 0);
}

/** "127.0.0.1:80", "[::1]:80" or an absolute path. */
export function parseAddressText(text: string): Address | undefined {
  if (text.startsWith("/") || text.startsWith("@")) return pipeAddress(text);
  const colon = text.lastIndexOf(":");
  const port = Number(text.slice(colon + 1));
  if (colon < 0 || !/^\d{1,5}$/.test(text.slice(colon + 1)) || port > 65535) return undefined;
  const host = text.startsWith("[") ? text.slice(1, colon - 1) : text.slice(0, colon);
  return isIPv4(host) || isIPv6(host) ? ipAddress(host, port) : undefined;
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: Address): boolean {
  return address.kind === "pipe" || (address.family === 4 ? address.ip.startsWith("127.") : address.ip === "::1");
}

/** RFC 1918, loopback and unique local addresses: what Envoy calls internal by default. */
export function isPrivate(address: Address): boolean {
  if (address.kind === "pipe") return true;
  const { ip } = address;
  if (address.family === 6) return ip === "::1" || /^f[cd]/i.test(ip);
  if (ip.startsWith("10.") || ip.startsWith("192.168.") || ip.startsWith("127.")) return true;
  if (!ip.startsWith("172.")) return false;
  const second = Number(ip.slice(4, ip.indexOf(".", 4)));
  return second >= 16 && second <= 31;
}
