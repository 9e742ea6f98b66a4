/** socket_options, as far as Node can set them. The rest is refused by name. */
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";

export const honours: Honours = { "envoy.config.core.v3.SocketOption": ["description", "level", "name", "int_value", "buf_value", "state"] };

export interface SocketSettings {
  readonly keepAlive: boolean;
  /** Milliseconds before the first probe; 0: the system's. */
  readonly keepAliveDelayMs: number;
}

/** Linux numbers of the options we can set: level and name. */
const solSocket = 1n;
const ipprotoTcp = 6n;
const soKeepAlive = 9n;
const soReuseAddress = 2n;
const soReusePort = 15n;
const tcpNoDelay = 1n;
const tcpKeepIdle = 4n;

export function compileSocketOptions(message: Listener, context: CompileContext): SocketSettings {
  let keepAlive = false;
  let keepAliveDelayMs = 0;
  if (message.tcpKeepalive !== undefined) {
    keepAlive = true;
    keepAliveDelayMs = (message.tcpKeepalive.keepaliveTime ?? 0) * 1000;
  }
  for (const option of message.socketOptions) {
    // Without a value the loader has a finding already.
    if (option.value.case === undefined) continue;
    const bytes = option.value.case === "bufValue" ? Buffer.from(option.value.value) : undefined;
    const value =
      option.value.case === "intValue"
        ? Number(option.value.value)
        : bytes === undefined || bytes.length === 0
          ? 0
          : bytes.readUIntLE(0, Math.min(4, bytes.length));
    if (option.level === solSocket && option.name === soKeepAlive) keepAlive = value !== 0;
    else if (option.level === ipprotoTcp && option.name === tcpKeepIdle) keepAliveDelayMs = value * 1000;
    // Both are always on here.
    else if (option.level === solSocket && (option.name === soReuseAddress || option.name === soReusePort) && value !== 0) continue;
    else if (option.level === ipprotoTcp && option.name === tcpNoDelay && value !== 0) continue;
    else {
      context.report(option, "name", {
        code: "OR4003",
        text: `socket option level ${option.level} name ${option.name} is not supported`,
        hint: "SO_KEEPALIVE (1, 9), SO_REUSEADDR (1, 2), SO_REUSEPORT (1, 15), TCP_NODELAY (6, 1) and TCP_KEEPIDLE (6, 4) are",
      });
    }
  }
  return { keepAlive, keepAliveDelayMs };
}
