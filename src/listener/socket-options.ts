/** What is asked of a listener's socket: keep-alive, and whatever socket_options, freebind, transparent and TCP Fast Open name. */
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { intOption, nativeSockets, type RawSocketOption } from "./native-sockets.ts";

export const honours: Honours = {
  "envoy.config.core.v3.SocketOption": ["description", "level", "name", "int_value", "buf_value", "state"],
  "envoy.config.core.v3.TcpKeepalive": "*",
};

export interface SocketSettings {
  readonly keepAlive: boolean;
  /** Milliseconds before the first probe; 0: the system's. */
  readonly keepAliveDelayMs: number;
  /** Options that Node cannot set, by the moment at which they are set; `forFamily` where IPv4 and IPv6 differ. */
  readonly beforeBind: readonly SocketOption[];
  readonly bound: readonly SocketOption[];
  readonly listening: readonly SocketOption[];
}

export interface SocketOption extends RawSocketOption {
  readonly forFamily: 4 | 6 | undefined;
}

/** Linux's numbers. */
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_KEEPALIVE = 9;
const SO_REUSEPORT = 15;
const SOL_IP = 0;
const IP_FREEBIND = 15;
const IP_TRANSPARENT = 19;
const SOL_IPV6 = 41;
const IPV6_TRANSPARENT = 75;
const IPV6_FREEBIND = 78;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_FASTOPEN = 23;

export function compileSocketOptions(message: Listener, context: CompileContext): SocketSettings {
  let keepAlive = false;
  let keepAliveDelayMs = 0;
  const beforeBind: SocketOption[] = [];
  const bound: SocketOption[] = [];
  const listening: SocketOption[] = [];
  const any = (option: RawSocketOption): SocketOption => ({ ...option, forFamily: undefined });
  const wants = (asked: string): void => {
    if (nativeSockets() === undefined)
      context.report(message, asked, { code: "OR4003", text: `${asked} needs the optional package koffi, which is not installed`, hint: "npm install koffi" });
  };
  const keep = message.tcpKeepalive;
  if (keep !== undefined) {
    keepAlive = true;
    keepAliveDelayMs = (keep.keepaliveTime ?? 0) * 1000;
    if (keep.keepaliveInterval !== undefined) beforeBind.push(any(intOption(IPPROTO_TCP, TCP_KEEPINTVL, keep.keepaliveInterval)));
    if (keep.keepaliveProbes !== undefined) beforeBind.push(any(intOption(IPPROTO_TCP, TCP_KEEPCNT, keep.keepaliveProbes)));
    if (beforeBind.length > 0) wants("tcp_keepalive");
  }
  if (message.freebind === true) {
    wants("freebind");
    beforeBind.push({ ...intOption(SOL_IP, IP_FREEBIND, 1), forFamily: 4 }, { ...intOption(SOL_IPV6, IPV6_FREEBIND, 1), forFamily: 6 });
  }
  if (message.transparent === true) {
    wants("transparent");
    beforeBind.push({ ...intOption(SOL_IP, IP_TRANSPARENT, 1), forFamily: 4 }, { ...intOption(SOL_IPV6, IPV6_TRANSPARENT, 1), forFamily: 6 });
  }
  if (message.tcpFastOpenQueueLength !== undefined) {
    wants("tcp_fast_open_queue_length");
    listening.push(any(intOption(IPPROTO_TCP, TCP_FASTOPEN, message.tcpFastOpenQueueLength)));
  }
  for (const option of message.socketOptions) {
    // Without a value the loader has a finding already.
    if (option.value.case === undefined) continue;
    const level = Number(option.level);
    const name = Number(option.name);
    const raw = option.value.case === "bufValue" ? { level, name, value: Buffer.from(option.value.value) } : intOption(level, name, Number(option.value.value));
    const number = raw.value.length === 0 ? 0 : raw.value.readUIntLE(0, Math.min(4, raw.value.length));
    if (level === SOL_SOCKET && name === SO_KEEPALIVE) keepAlive = number !== 0;
    else if (level === IPPROTO_TCP && name === TCP_KEEPIDLE) keepAliveDelayMs = number * 1000;
    // Always on here.
    else if (level === SOL_SOCKET && (name === SO_REUSEADDR || name === SO_REUSEPORT) && number !== 0) continue;
    else if (level === IPPROTO_TCP && name === TCP_NODELAY && number !== 0) continue;
    else {
      wants("socket_options");
      // SocketState: 0 STATE_PREBIND, 1 STATE_BOUND, 2 STATE_LISTENING
      (option.state === 0 ? beforeBind : option.state === 1 ? bound : listening).push(any(raw));
    }
  }
  return { keepAlive, keepAliveDelayMs, beforeBind, bound, listening };
}
