/** Small readings of message fields that the connection manager needs. */

export interface ConnectionTokens {
  readonly close: boolean;
  readonly upgrade: boolean;
}

const none: ConnectionTokens = { close: false, upgrade: false };
const close: ConnectionTokens = { close: true, upgrade: false };
const upgrade: ConnectionTokens = { close: false, upgrade: true };

/** Connection options (RFC 9110 7.6.1) that decide something here. */
export function connectionTokens(value: string): ConnectionTokens {
  // What nearly all clients send needs no parsing.
  switch (value) {
    case "keep-alive":
    case "Keep-Alive":
      return none;
    case "close":
      return close;
    case "Upgrade":
    case "upgrade":
      return upgrade;
  }
  const tokens = value.split(",").map((token) => token.trim().toLowerCase());
  return { close: tokens.includes("close"), upgrade: tokens.includes("upgrade") };
}

export function isGrpcRequest(contentType: string): boolean {
  return contentType.startsWith("application/grpc") && (contentType.length === 16 || contentType.charCodeAt(16) === 43 || contentType.charCodeAt(16) === 59);
}

/** gRPC's mapping of HTTP codes (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md). */
export function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** grpc-message: bytes outside 0x20..0x7e and "%" as %XX. */
export function percentEncode(bytes: Buffer): string {
  let text = "";
  for (const byte of bytes)
    text += byte < 0x20 || byte > 0x7e || byte === 0x25 ? `%${byte.toString(16).toUpperCase().padStart(2, "0")}` : String.fromCharCode(byte);
  return text;
}

const grpcUnits: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** grpc-timeout in milliseconds, rounded up; undefined when absent or malformed. */
export function grpcTimeoutMs(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(value);
  return match === null ? undefined : Math.ceil(Number(match[1]) * grpcUnits[match[2]]);
}
