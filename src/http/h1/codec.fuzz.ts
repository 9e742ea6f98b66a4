/**
 * Any bytes as requests, and as answers. What must hold: nothing but a refusal comes of bad bytes; however the bytes are cut, the same is read; and what
 * was read is written so that it can be read in one way only: as the same request, once.
 */
import { type FuzzTarget, Random } from "../../testing/fuzz.ts";
import { RequestHeaders } from "../header-map.ts";
import { FakeConnection } from "../manager/testing.ts";
import { H1ClientConnection } from "./client-connection.ts";
import { ClientHarness, type SeenRequest, ServerHarness, testSettings } from "./testing.ts";

const lenient = { acceptHttp10: true, defaultHost: "d", enableTrailers: true, maxHeadBytes: 512, maxHeaderCount: 12, customMethods: true } as const;
const plain = { maxHeadBytes: 512, maxHeaderCount: 12 } as const;

function cuts(input: Uint8Array): number[] {
  let seed = input.length + 1;
  for (const byte of input) seed = (Math.imul(seed, 31) + byte) >>> 0;
  const random = new Random(seed);
  const found = new Set<number>();
  for (let i = 0; i < 6; i++) found.add(random.below(input.length + 1));
  return [...found].sort((a, b) => a - b);
}

function equal(a: readonly string[], b: readonly string[], what: string): void {
  if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${what}:\n${JSON.stringify(a)}\n${JSON.stringify(b)}`);
}

/** The request as our client codec sends it on, read again by a server codec. */
function roundTrip(request: SeenRequest): void {
  const { headers } = request;
  // Bytes of tunnels are not framed.
  if (headers.method === "CONNECT" || headers.get("upgrade") !== undefined) return;
  const connection = new FakeConnection();
  const stream = new H1ClientConnection(connection, testSettings({ enableTrailers: true }), { onGoAway: () => {}, onProtocolError: () => {} }).newStream({
    decode1xxHeaders: () => {},
    decodeHeaders: () => {},
    decodeData: () => {},
    decodeTrailers: () => {},
  });
  // The connection manager takes these away.
  const list: string[] = [];
  headers.forEach((name, value) => {
    if (name !== "connection" && name !== "keep-alive" && name !== "te") list.push(name, value);
  });
  const hasBody = request.body.length > 0 || request.trailers !== undefined;
  stream.encodeHeaders(new RequestHeaders(headers.method, headers.path, headers.authority, "http", list), !hasBody);
  if (hasBody) {
    if (request.body.length > 0) stream.encodeData(request.body, request.trailers === undefined);
    if (request.trailers !== undefined) stream.encodeTrailers(request.trailers);
  }
  const again = new ServerHarness({ ...lenient, maxHeadBytes: 4096, maxHeaderCount: 40 });
  again.receive(connection.written);
  const seen = again.requests[0];
  if (again.requests.length !== 1 || !seen.ended || again.events.some((event) => event.startsWith("refused")))
    throw new Error(`not one whole request: ${JSON.stringify(connection.written)} ${JSON.stringify(again.events)}`);
  if (
    seen.headers.method !== headers.method ||
    seen.headers.path !== headers.path ||
    (seen.headers.authority ?? "") !== (headers.authority ?? "") ||
    !seen.body.equals(request.body)
  )
    throw new Error(`another request: ${JSON.stringify(connection.written)} ${JSON.stringify(again.events)}`);
}

const methods = ["GET", "HEAD", "POST", "CONNECT"];

const target: FuzzTarget = {
  maxBytes: 1200,
  seeds: [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    "GET http://b:80/?q HTTP/1.0\r\nConnection: x-a, te\r\nX-A: 1\r\nTE: trailers\r\n y\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nraw",
    "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: upgrade\nContent-Length: 0\n\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\n\r\nHTTP/1.1 101 x\r\n\r\n",
  ],
  dictionary: [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0\r\n\r\n",
    "Host: a\r\n",
    "Content-Length: ",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: ",
    "chunked",
    "identity",
    "Connection: close\r\n",
    "Connection: ",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "http://u@b/",
    "*",
    "ffffffffffffffff",
    "1\r\na\r\n",
  ],
  run(input) {
    const data = Buffer.from(input);
    const at = cuts(input);
    for (const settings of [lenient, plain]) {
      const whole = new ServerHarness(settings);
      whole.receiveCut(data, []);
      const cut = new ServerHarness(settings);
      cut.receiveCut(data, at);
      equal(whole.events, cut.events, "requests depend on how bytes are cut");
      for (const request of whole.requests) if (request.ended) roundTrip(request);
    }
    const method = methods[input.length % methods.length];
    const answers = [[], at].map((places) => {
      const harness = new ClientHarness(plain);
      harness.request(method, "/", method === "GET" ? ["connection", "upgrade", "upgrade", "x"] : [], method !== "CONNECT" && method !== "GET");
      harness.receiveCut(data, places);
      harness.codec.onConnectionEnd();
      return harness.events;
    });
    equal(answers[0], answers[1], "answers depend on how bytes are cut");
  },
};
export default target;
