/** Numbers and layouts of the Proxy-Wasm ABI, versions 0.1.0, 0.2.0 and 0.2.1. */

export const status = {
  ok: 0,
  notFound: 1,
  badArgument: 2,
  serializationFailure: 3,
  parseFailure: 4,
  badExpression: 5,
  invalidMemoryAccess: 6,
  empty: 7,
  casMismatch: 8,
  resultMismatch: 9,
  internalFailure: 10,
  brokenConnection: 11,
  unimplemented: 12,
} as const;

export const bufferType = {
  requestBody: 0,
  responseBody: 1,
  downstreamData: 2,
  upstreamData: 3,
  httpCallResponseBody: 4,
  grpcReceive: 5,
  vmConfiguration: 6,
  pluginConfiguration: 7,
  callData: 8,
} as const;

export const mapType = {
  requestHeaders: 0,
  requestTrailers: 1,
  responseHeaders: 2,
  responseTrailers: 3,
  grpcInitialMetadata: 4,
  grpcTrailingMetadata: 5,
  httpCallResponseHeaders: 6,
  httpCallResponseTrailers: 7,
} as const;

export const streamType = { request: 0, response: 1, downstream: 2, upstream: 3 } as const;
export const metricType = { counter: 0, gauge: 1, histogram: 2 } as const;

/** Name, value, name, value, ... (latin1) as a guest gets header maps: counts and lengths first, each text with a zero byte behind. */
export function encodePairs(pairs: readonly string[]): Buffer {
  const count = pairs.length >> 1;
  let size = 4 + count * 8;
  for (const text of pairs) size += text.length + 1;
  const out = Buffer.alloc(size);
  out.writeUInt32LE(count, 0);
  let at = 4;
  for (const text of pairs) at = out.writeUInt32LE(text.length, at);
  for (const text of pairs) {
    out.write(text, at, "latin1");
    at += text.length + 1;
  }
  return out;
}

/** The reverse; undefined where lengths lead out of the data. */
export function decodePairs(data: Buffer): string[] | undefined {
  if (data.length === 0) return [];
  if (data.length < 4) return undefined;
  const count = data.readUInt32LE(0);
  let at = 4 + count * 8;
  if (at > data.length) return undefined;
  const pairs: string[] = [];
  for (let i = 0; i < count * 2; i++) {
    const length = data.readUInt32LE(4 + i * 4);
    if (at + length + 1 > data.length) return undefined;
    pairs.push(data.toString("latin1", at, at + length));
    at += length + 1;
  }
  return pairs;
}
