/** Any bytes behind a preface: they end in events or a GOAWAY, and what is kept of them has its bounds. */
import type { FuzzTarget } from "../../testing/fuzz.ts";
import { ResponseHeaders } from "../header-map.ts";
import { frameType, preface } from "./frames.ts";
import { frame, Peer, ServerHarness, settingsFrame, word } from "./testing.ts";

const peer = new Peer();
const head = peer.headers(1, [":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"], false);

const target: FuzzTarget = {
  maxBytes: 2048,
  seeds: [
    Buffer.concat([settingsFrame(1, 100, 4, 5), head, frame(0, 1, 1, Buffer.from("body"))]),
    Buffer.concat([settingsFrame(), head, frame(0, 8, 1, Buffer.from("\x02ab\0\0", "latin1")), new Peer().headers(1, ["x", "y"])]),
    Buffer.concat([settingsFrame(), head, word(frameType.rstStream, 1, 8), word(frameType.windowUpdate, 0, 100), frame(6, 0, 0, Buffer.alloc(8))]),
    Buffer.concat([settingsFrame(), frame(1, 0, 1, new Peer().block([":method", "GET"])), frame(9, 4, 1, new Peer().block([":path", "/"]))]),
    Buffer.concat([settingsFrame(), frame(2, 0, 3, Buffer.alloc(5)), frame(7, 0, 0, Buffer.alloc(8)), frame(99, 0, 0, Buffer.alloc(3))]),
  ],
  dictionary: [
    "\0\0\0",
    "\0\0\x04\x08\0\0\0\0\x01",
    "\0\0\x04\x03\0\0\0\0\x01",
    "\0\0\0\0\x01\0\0\0\x01",
    "\0\0\x01\x09\x04\0\0\0\x01",
    "\x82\x84\x86",
    "\0\0\x05\x01\x05\0\0\0\x03",
  ],
  run(input) {
    const bytes = Buffer.from(input);
    const whole = run([bytes]);
    const middle = (bytes.length * 7) >> 4;
    const cut = run([bytes.subarray(0, middle), bytes.subarray(middle)]);
    if (JSON.stringify(whole) !== JSON.stringify(cut)) throw new Error(`cut at ${middle}:\n${JSON.stringify(whole)}\n${JSON.stringify(cut)}`);
  },
};
export default target;

/** Requests and resets that came of it; content as a whole, as pieces follow the cuts. */
function run(parts: readonly Buffer[]): string[] {
  const harness = new ServerHarness({ maxHeadBytes: 512, maxHeaderCount: 8, maxConcurrentStreams: 4, allowConnect: true }, 64, false);
  harness.codec.dispatch(preface);
  for (const part of parts) harness.codec.dispatch(part);
  for (const stream of harness.streams) {
    if (stream.headers !== undefined && stream.reset === undefined) stream.respond(new ResponseHeaders(200), "answer");
  }
  harness.codec.flush();
  harness.codec.onConnectionEnd();
  if (harness.codec.streams.size > 0) throw new Error("streams are left");
  const { pending_send_bytes, streams_active } = harness.settings.stats;
  if (pending_send_bytes.value !== 0 || streams_active.value !== 0) throw new Error("gauges are left up");
  return [...harness.events.filter((event) => !event.startsWith("data")), ...harness.streams.map(({ body }) => body)];
}
