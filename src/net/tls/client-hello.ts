/** What a TLS client asks for, from its first bytes (RFC 8446 4.1.2). Every length is checked; nothing is trusted. */

export interface ClientHello {
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** supported_groups and the groups of key_share, as numbers, in the client's order. */
  readonly groups: readonly number[];
  readonly keyShares: readonly number[];
  readonly supportsTls13: boolean;
  readonly cipherSuites: readonly number[];
  readonly signatureAlgorithms: readonly number[];
}

/** A hello of more bytes is not waited for. */
export const maxHelloBytes = 16 * 1024;

/** "partial": more bytes are needed; "other": this is no TLS hello (or one too strange to read: OpenSSL will say what it thinks of it). */
export function parseClientHello(bytes: Buffer): ClientHello | "partial" | "other" {
  const message = handshakeMessage(bytes);
  if (typeof message === "string") return message;
  const hello = {
    serverName: "",
    alpn: [] as string[],
    groups: [] as number[],
    keyShares: [] as number[],
    supportsTls13: false,
    cipherSuites: [] as number[],
    signatureAlgorithms: [] as number[],
  };
  let at = 34;
  at += 1 + (message[at] ?? 0);
  if (at + 2 > message.length) return "other";
  const suitesEnd = at + 2 + message.readUInt16BE(at);
  hello.cipherSuites = numbers(message.subarray(at + 2, suitesEnd));
  at = suitesEnd;
  at += 1 + (message[at] ?? 0);
  if (at + 2 > message.length) return hello;
  const end = Math.min(message.length, at + 2 + message.readUInt16BE(at));
  at += 2;
  while (at + 4 <= end) {
    const type = message.readUInt16BE(at);
    const length = message.readUInt16BE(at + 2);
    const data = message.subarray(at + 4, at + 4 + length);
    if (data.length < length) return "other";
    at += 4 + length;
    if (type === 0) hello.serverName = serverName(data);
    else if (type === 16) hello.alpn = alpn(data);
    else if (type === 13) hello.signatureAlgorithms = numbers(data.subarray(2));
    else if (type === 10) hello.groups = numbers(data.subarray(2));
    else if (type === 43) hello.supportsTls13 = numbers(data.subarray(1)).includes(0x0304);
    else if (type === 51) hello.keyShares = keyShares(data);
  }
  return hello;
}

/** The body of the first handshake message, put together from records. */
export function handshakeMessage(bytes: Buffer): Buffer | "partial" | "other" {
  const parts: Buffer[] = [];
  let at = 0;
  let have = 0;
  let want = -1;
  for (;;) {
    if (bytes.length > at && bytes[at] !== 22) return "other";
    if (bytes.length < at + 5) return bytes.length > maxHelloBytes ? "other" : "partial";
    if (bytes[at + 1] !== 3) return "other";
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > 16_640) return "other";
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    have += part.length;
    if (want < 0 && have >= 4) {
      const head = parts.length === 1 ? parts[0] : Buffer.concat(parts);
      if (head[0] !== 1) return "other";
      want = 4 + head.readUIntBE(1, 3);
      if (want > maxHelloBytes) return "other";
    }
    if (want >= 0 && have >= want) return (parts.length === 1 ? parts[0] : Buffer.concat(parts)).subarray(4, want);
    if (part.length < length) return bytes.length > maxHelloBytes ? "other" : "partial";
    at += 5 + length;
  }
}

function serverName(data: Buffer): string {
  if (data.length < 5 || data[2] !== 0) return "";
  const length = data.readUInt16BE(3);
  return data.length < 5 + length ? "" : data.toString("latin1", 5, 5 + length).toLowerCase();
}

function alpn(data: Buffer): string[] {
  const found: string[] = [];
  for (let at = 2; at < data.length; ) {
    const length = data[at];
    if (length === 0 || at + 1 + length > data.length) return found;
    found.push(data.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return found;
}

function numbers(data: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + 2 <= data.length; at += 2) found.push(data.readUInt16BE(at));
  return found;
}

function keyShares(data: Buffer): number[] {
  const found: number[] = [];
  for (let at = 2; at + 4 <= data.length; ) {
    found.push(data.readUInt16BE(at));
    at += 4 + data.readUInt16BE(at + 2);
  }
  return found;
}

const groupNumbers: Readonly<Record<string, number>> = { X25519: 29, "P-256": 23, "P-384": 24, "P-521": 25, X25519MLKEM768: 4588 };

/** The group a server with this order of preference takes: one the client has sent a share for, else one it supports. */
export function agreedGroup(hello: ClientHello, preference: readonly string[], tls13: boolean): string | undefined {
  if (tls13) {
    const shared = preference.find((name) => hello.keyShares.includes(groupNumbers[name]));
    if (shared !== undefined) return shared;
  }
  return preference.find((name) => hello.groups.includes(groupNumbers[name]));
}

const ecdsaSignatures = new Set([0x0403, 0x0503, 0x0603, 0x0203]);
/** TLS_ECDHE_ECDSA_* that we have. */
const ecdsaSuites = new Set([0xc009, 0xc00a, 0xc023, 0xc024, 0xc02b, 0xc02c, 0xcca9]);

/** Whether the client can do with a certificate that has an ECDSA key. */
export function takesEcdsa(hello: ClientHello): boolean {
  if (!hello.signatureAlgorithms.some((algorithm) => ecdsaSignatures.has(algorithm))) return false;
  return hello.supportsTls13 || hello.cipherSuites.some((suite) => ecdsaSuites.has(suite));
}
