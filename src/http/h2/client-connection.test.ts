import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestEncoder, StreamResetReason } from "../codec.ts";
import { RequestHeaders, type ResponseHeaders, Trailers } from "../header-map.ts";
import { FakeConnection } from "../manager/testing.ts";
import { H2ClientConnection } from "./client-connection.ts";
import { flag, frameType, preface } from "./frames.ts";
import type { H2Settings } from "./settings.ts";
import { frame, framesOf, Peer, settingsFrame, testSettings, word } from "./testing.ts";

class Harness {
  readonly connection = new FakeConnection();
  readonly events: string[] = [];
  readonly peer = new Peer();
  readonly settings: H2Settings;
  readonly codec: H2ClientConnection;
  #read = preface.length;

  constructor(changes: Partial<H2Settings> = {}) {
    this.settings = testSettings(changes);
    this.codec = new H2ClientConnection(
      this.connection,
      this.settings,
      {
        onGoAway: () => this.events.push("goaway"),
        onProtocolError: (details) => this.events.push(`error ${details}`),
        onStreamEnded: () => this.events.push("ended"),
        onPeerLimits: () => {},
        onStreamReset: () => {},
      },
      0,
    );
    this.receive(settingsFrame(3, 50));
  }

  request(method = "GET", endStream = true, list: string[] = []): RequestEncoder {
    const encoder = this.codec.newStream({
      decode1xxHeaders: ({ status }) => this.events.push(`interim ${status}`),
      decodeHeaders: (headers: ResponseHeaders, end) => this.events.push(`${headers.status}${end ? " end" : ""} ${headers.list.join(" ")}`.trimEnd()),
      decodeData: (chunk, end) => this.events.push(`data ${chunk}${end ? " end" : ""}`),
      decodeTrailers: (trailers) => this.events.push(`trailers ${trailers.list.join(" ")}`),
    });
    encoder.stream.addCallbacks({
      onResetStream: (reason: StreamResetReason, details) => this.events.push(`reset ${reason} ${details}`.trimEnd()),
      onAboveWriteBufferHighWatermark: () => {},
      onBelowWriteBufferLowWatermark: () => {},
    });
    encoder.encodeHeaders(new RequestHeaders(method, "/p", "a", "http", list), endStream);
    return encoder;
  }

  receive(...frames: Buffer[]): string[] {
    this.codec.dispatch(Buffer.concat(frames));
    this.codec.flush();
    const bytes = Buffer.from(this.connection.written.slice(this.#read), "latin1");
    this.#read = this.connection.written.length;
    return framesOf(bytes).map((one) => this.peer.describe(one));
  }
}

test("a request, its response with trailers; the account is closed before the end is told", () => {
  const harness = new Harness();
  const encoder = harness.request("POST", false, ["x-a", "1", "connection", "close"]);
  encoder.encodeData(Buffer.from("body"), false);
  encoder.encodeTrailers(new Trailers(["t", "1"]));
  assert.deepEqual(harness.receive(), ["HEADERS 1 :authority=a :path=/p :method=POST :scheme=http x-a=1", "DATA 1 body", "HEADERS 1 end t=1"]);
  harness.receive(harness.peer.headers(1, [":status", "103"], false), harness.peer.headers(1, [":status", "200", "x-b", "2"], false));
  harness.receive(frame(frameType.data, 0, 1, Buffer.from("answer")), harness.peer.headers(1, ["grpc-status", "0"]));
  assert.deepEqual(harness.events, ["interim 103", "200 x-b 2", "data answer", "ended", "trailers grpc-status 0"]);
});

test("an upgrade becomes extended CONNECT, and 200 becomes 101", () => {
  const harness = new Harness();
  harness.request("GET", false, ["upgrade", "websocket", "connection", "upgrade"]);
  assert.deepEqual(harness.receive(), ["HEADERS 1 :authority=a :path=/p :method=CONNECT :scheme=http :protocol=websocket"]);
  harness.receive(harness.peer.headers(1, [":status", "200"], false));
  assert.deepEqual(harness.events, ["101 upgrade websocket connection upgrade"]);
});

test("answers that are none", () => {
  const cases: [string, (harness: Harness) => Buffer[], string, string][] = [
    ["no status", ({ peer }) => [peer.headers(1, ["x", "y"])], "RST_STREAM 1 1", "reset protocol_error http2.violation.of.messaging.rule"],
    ["101", ({ peer }) => [peer.headers(1, [":status", "101"])], "RST_STREAM 1 1", "reset protocol_error http2.invalid.header.field"],
    [
      "content of 204",
      ({ peer }) => [peer.headers(1, [":status", "204"], false), frame(0, 1, 1, Buffer.from("x"))],
      "RST_STREAM 1 1",
      "reset protocol_error http2.remote_reset",
    ],
    [
      "too short",
      ({ peer }) => [peer.headers(1, [":status", "200", "content-length", "3"], false), frame(0, 1, 1)],
      "RST_STREAM 1 1",
      "reset protocol_error http2.remote_reset",
    ],
    [
      "too many fields",
      ({ peer }) => [peer.headers(1, [":status", "200", ...Array.from({ length: 20 }, (_, i) => [`x${i}`, "1"]).flat()])],
      "RST_STREAM 1 2",
      "reset remote_reset http2.too_many_headers",
    ],
    ["content before a head", () => [frame(0, 1, 1, Buffer.from("x"))], "GOAWAY 0 0 1", "reset protocol_error codec_error:The_user_callback_function_failed"],
    [
      "a push",
      ({ peer }) => [frame(frameType.pushPromise, flag.endHeaders, 1, peer.block([":method", "GET"]))],
      "GOAWAY 0 0 1",
      "reset protocol_error codec_error:The_user_callback_function_failed",
    ],
    [
      "a stream that nobody opened",
      ({ peer }) => [peer.headers(9, [":status", "200"])],
      "GOAWAY 0 0 1",
      "reset protocol_error codec_error:The_user_callback_function_failed",
    ],
  ];
  for (const [what, frames, answer, reset] of cases) {
    const harness = new Harness();
    harness.request();
    assert.equal(
      harness
        .receive(...frames(harness))
        .at(-1)
        ?.slice(0, answer.length),
      answer,
      what,
    );
    assert.ok(harness.events.includes(reset), `${what}: ${harness.events}`);
    assert.equal(harness.events.filter((event) => event === "ended").length, 1, what);
  }
});

test("resets by the peer, by their codes", () => {
  for (const [code, reason] of [
    [0, "remote_reset http2.remote_reset"],
    [1, "protocol_error http2.remote_reset"],
    [7, "remote_refused_stream_reset http2.remote_refuse"],
    [10, "connect_error http2.remote_reset"],
  ] as const) {
    const harness = new Harness();
    harness.request();
    harness.receive(word(frameType.rstStream, 1, code));
    assert.deepEqual(harness.events, ["ended", `reset ${reason}`]);
  }
});

test("GOAWAY: streams above the last one were not looked at", () => {
  const harness = new Harness();
  for (let i = 0; i < 3; i++) harness.request();
  harness.receive(frame(frameType.goAway, 0, 0, Buffer.from([0, 0, 0, 3, 0, 0, 0, 0])));
  assert.deepEqual(harness.events, ["goaway", "ended", "reset remote_refused_stream_reset http2.remote_refuse"]);
  harness.receive(harness.peer.headers(3, [":status", "200"]));
  assert.equal(harness.events.at(-1), "200 end");
});

test("a stream that was given up before it began leaves no trace but in its account", () => {
  const harness = new Harness();
  const encoder = harness.codec.newStream({ decode1xxHeaders: () => {}, decodeHeaders: () => {}, decodeData: () => {}, decodeTrailers: () => {} });
  harness.receive();
  encoder.stream.resetStream("local_reset");
  assert.deepEqual(harness.receive(), []);
  assert.deepEqual(harness.events, ["ended"]);
  harness.request();
  assert.deepEqual(harness.receive(), ["HEADERS 1 end :authority=a :path=/p :method=GET :scheme=http"]);
});

test("how many streams there may be at once", () => {
  const harness = new Harness({ maxConcurrentStreams: 100 });
  assert.equal(harness.codec.streamLimit, 50);
  harness.receive(settingsFrame(3, 1000));
  assert.equal(harness.codec.streamLimit, 100);
});
