import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ResponseHeaders, Trailers } from "../header-map.ts";
import { flag, frameType, preface } from "./frames.ts";
import { frame, Peer, ServerHarness, settingsFrame, word } from "./testing.ts";

const get = [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"];
const post = [":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"];
const data = (id: number, text: string, endStream = false): Buffer => frame(frameType.data, endStream ? flag.endStream : 0, id, Buffer.from(text, "latin1"));

test("a request and its response; settings and the connection's window come first", () => {
  const harness = new ServerHarness({ initialConnectionWindowSize: 100_000 }, 0, false);
  assert.deepEqual(
    harness.receive(preface, settingsFrame()),
    ["SETTINGS 0", "WINDOW_UPDATE 0 34465", "SETTINGS ack"].map((t) => t.replace("SETTINGS 0", "SETTINGS")),
  );
  harness.receive(harness.peer.headers(1, [...get, "x-a", "1"]));
  assert.deepEqual(harness.events, ["GET http://a/ end x-a=1"]);
  harness.streams[0].respond(new ResponseHeaders(200, ["x-b", "2", "connection", "close"]), "hello");
  assert.deepEqual(harness.written(), ["HEADERS 1 :status=200 x-b=2", "DATA 1 end hello"]);
  assert.equal(harness.codec.streams.size, 0);
});

test("content, trailers both ways, cookies in pieces, host for a missing authority", () => {
  const harness = new ServerHarness();
  const fields = [...post.slice(0, 6), "host", "b", "cookie", "x=1", "x-c", "3", "cookie", "y=2"];
  harness.receive(harness.peer.headers(1, fields, false), data(1, "abc"), harness.peer.headers(1, ["x-t", "1"]));
  assert.deepEqual(harness.events, ["POST http://b/ cookie=x=1; y=2 x-c=3", "data 3", "trailers x-t 1"]);
  const { encoder } = harness.streams[0];
  encoder.encodeHeaders(new ResponseHeaders(200), false);
  encoder.encodeData(Buffer.from("d"), false);
  encoder.encodeTrailers(new Trailers(["grpc-status", "0"]));
  assert.deepEqual(harness.written(), ["HEADERS 1 :status=200", "DATA 1 d", "HEADERS 1 end grpc-status=0"]);
});

test("however the bytes are cut, the same is read", () => {
  const peer = new Peer();
  const bytes = Buffer.concat([
    preface,
    settingsFrame(4, 1000),
    frame(frameType.headers, 0, 1, peer.block(post)),
    frame(frameType.continuation, flag.endHeaders, 1, peer.block(["x-a", "1"])),
    frame(frameType.data, flag.padded, 1, Buffer.from("\x03abc\0\0\0", "latin1")),
    data(1, "defg"),
    frame(frameType.data, flag.padded | flag.endStream, 1, Buffer.from("\x02\0\0", "latin1")),
    peer.headers(3, get),
  ]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 12 }), (cuts) => {
      const harness = new ServerHarness({}, 0, false);
      let from = 0;
      for (const to of [...cuts.sort((a, b) => a - b), bytes.length]) {
        harness.codec.dispatch(bytes.subarray(from, to));
        from = to;
      }
      assert.equal(harness.streams[0].body, "abcdefg");
      const seen = harness.events.filter((event) => !event.startsWith("data"));
      assert.deepEqual(seen, ["POST http://a/ x-a=1", "GET http://a/ end"]);
      assert.equal(harness.codec.streams.get(1)?.remoteEnded, true);
    }),
  );
});

test("nothing is sent beyond the windows; streams that wait take turns; a paused source is told", () => {
  const harness = new ServerHarness({}, 1000);
  harness.receive(settingsFrame(4, 10), harness.peer.headers(1, post, false), harness.peer.headers(3, post, false));
  for (const { encoder } of harness.streams) {
    encoder.encodeHeaders(new ResponseHeaders(200), false);
    encoder.encodeData(Buffer.alloc(2000, "x"), true);
  }
  assert.deepEqual(
    harness.written().filter((text) => text.startsWith("DATA")),
    ["DATA 1 xxxxxxxxxx", "DATA 3 xxxxxxxxxx"],
  );
  assert.deepEqual(
    harness.streams.map(({ paused }) => paused),
    [1, 1],
  );
  assert.equal(harness.settings.stats.pending_send_bytes.value, 3980);
  assert.deepEqual(harness.receive(word(frameType.windowUpdate, 3, 1600)), ["DATA 3 1600 octets"]);
  assert.deepEqual(
    harness.streams.map(({ paused }) => paused),
    [1, 0],
  );
  assert.deepEqual(harness.receive(word(frameType.windowUpdate, 3, 1000)), ["DATA 3 end 390 octets"]);
  assert.deepEqual(harness.receive(word(frameType.windowUpdate, 1, 5000)), ["DATA 1 end 1990 octets"]);
  assert.equal(harness.settings.stats.pending_send_bytes.value, 0);
});

test("window goes back to the peer when half of it is taken, and not while reading is disabled", () => {
  const harness = new ServerHarness();
  const half = "x".repeat(16_384);
  harness.receive(harness.peer.headers(1, post, false));
  assert.deepEqual(harness.receive(data(1, half)), []);
  assert.deepEqual(harness.receive(data(1, half)), ["WINDOW_UPDATE 0 32768", "WINDOW_UPDATE 1 32768"]);
  harness.streams[0].encoder.stream.readDisable(true);
  assert.deepEqual(harness.receive(data(1, half), data(1, half)), []);
  harness.streams[0].encoder.stream.readDisable(false);
  assert.deepEqual(harness.written(), ["WINDOW_UPDATE 0 32768", "WINDOW_UPDATE 1 32768"]);
  // More than the window.
  harness.streams[0].encoder.stream.readDisable(true);
  const over = harness.receive(...Array.from({ length: 4 }, () => data(1, half)));
  assert.deepEqual(over.at(-1)?.split(" ").slice(0, 4), ["GOAWAY", "0", "1", "3"]);
});

test("bad messages cost their stream, or the connection where that is configured", () => {
  const bad: [string, string[]][] = [
    ["upper case", [...get, "X", "1"]],
    ["a connection field", [...get, "connection", "close"]],
    ["te", [...get, "te", "gzip"]],
    ["a pseudo-header twice", [...get, ":path", "/"]],
    ["a pseudo-header behind a field", [...get.slice(0, 6), "x", "y", ":authority", "a"]],
    ["an unknown pseudo-header", [...get, ":x", "1"]],
    ["a response's", [...get, ":status", "200"]],
    ["a line feed", [...get, "x", "a\nb"]],
    ["no path", [...get.slice(0, 4), ":authority", "a"]],
    ["an empty path", [...get.slice(0, 4), ":path", "", ":authority", "a"]],
    ["no authority", get.slice(0, 6)],
    ["a protocol that was not allowed", [":method", "CONNECT", ":protocol", "websocket", ...get.slice(2)]],
    ["content where none may be", [...get, "content-length", "5"]],
  ];
  for (const [what, fields] of bad) {
    const harness = new ServerHarness();
    assert.deepEqual(harness.receive(harness.peer.headers(1, fields)), ["RST_STREAM 1 1"], what);
    assert.match(harness.streams[0].reset ?? "", /^protocol_error http2\.(invalid|violation)/, what);
    assert.equal(harness.settings.stats.rx_messaging_error.value, 1, what);
    harness.receive(harness.peer.headers(3, get));
    assert.equal(harness.events.at(-1), "GET http://a/ end", what);
    const strict = new ServerHarness({ streamErrorOnInvalidMessage: false });
    assert.deepEqual(
      strict.receive(strict.peer.headers(1, fields)).map((text) => text.slice(0, 10)),
      ["GOAWAY 0 1"],
      what,
    );
    assert.match(strict.events.at(-1) ?? "", /^error http2\./, what);
  }
});

test("heads over the limits are refused, and the tables stay right", () => {
  const harness = new ServerHarness({ maxHeadBytes: 300 });
  const many = Array.from({ length: 20 }, (_, i) => [`x-${i}`, "1"]).flat();
  assert.deepEqual(harness.receive(harness.peer.headers(1, [...get, ...many])), ["RST_STREAM 1 2"]);
  assert.equal(harness.streams[0].reset, "remote_reset http2.too_many_headers");
  assert.deepEqual(harness.receive(harness.peer.headers(3, [...get, "x-long", "l".repeat(400), "x-kept", "k"])), ["RST_STREAM 3 2"]);
  assert.equal(harness.streams[1].reset, "remote_reset http2.header_list_size_too_large");
  harness.receive(harness.peer.headers(5, [...get, "x-kept", "k", "x-7", "1"]));
  assert.equal(harness.events.at(-1), "GET http://a/ end x-kept=k x-7=1");
  assert.equal(harness.settings.stats.header_overflow.value, 1);
  assert.equal(harness.settings.stats.header_list_size_too_large.value, 1);
});

test("content that is not as long as was said ends in a reset", () => {
  for (const frames of [[data(1, "ab", true)], [data(1, "abcd")]]) {
    const harness = new ServerHarness();
    harness.receive(harness.peer.headers(1, [...post, "content-length", "3"], false));
    assert.deepEqual(harness.receive(...frames), ["RST_STREAM 1 1"]);
    assert.equal(harness.streams[0].reset, "protocol_error http2.remote_reset");
  }
});

test("streams past max_concurrent_streams are refused", () => {
  const harness = new ServerHarness({ maxConcurrentStreams: 1 });
  assert.deepEqual(harness.receive(harness.peer.headers(1, get), harness.peer.headers(3, get), data(3, "x")), ["RST_STREAM 3 7"]);
  assert.equal(harness.settings.stats.stream_refused_errors.value, 1);
  assert.equal(harness.streams.length, 1);
});

test("a response before the request has ended: the rest is not wanted, and passed over", () => {
  const harness = new ServerHarness();
  harness.receive(harness.peer.headers(1, post, false));
  harness.streams[0].respond(new ResponseHeaders(403));
  harness.streams[0].encoder.stream.resetStream("local_reset");
  assert.deepEqual(harness.written(), ["HEADERS 1 end :status=403", "RST_STREAM 1 0"]);
  assert.deepEqual(harness.receive(data(1, "abc"), harness.peer.headers(1, ["x", "y"])), []);
});

test("a reset of a response that waits for window comes behind it", () => {
  const harness = new ServerHarness();
  harness.receive(settingsFrame(4, 1), harness.peer.headers(1, post, false));
  harness.streams[0].respond(new ResponseHeaders(403), "no");
  harness.streams[0].encoder.stream.resetStream("local_reset");
  assert.deepEqual(harness.written(), ["HEADERS 1 :status=403", "DATA 1 n"].toSpliced(0, 0, "SETTINGS ack").slice(1));
  assert.deepEqual(harness.receive(word(frameType.windowUpdate, 1, 1)), ["DATA 1 end o", "RST_STREAM 1 0"]);
});

test("extended CONNECT is an upgrade, and 101 is 200", () => {
  const harness = new ServerHarness({ allowConnect: true });
  harness.receive(harness.peer.headers(1, [":method", "CONNECT", ":protocol", "websocket", ...get.slice(2)], false), data(1, "ping"));
  assert.deepEqual(harness.events, ["GET http://a/ upgrade=websocket connection=upgrade", "data 4"]);
  harness.streams[0].encoder.encodeHeaders(new ResponseHeaders(101, ["upgrade", "websocket", "connection", "upgrade"]), false);
  assert.deepEqual(harness.written(), ["HEADERS 1 :status=200"]);
});

test("drain: a notice, then the last stream; later ones are not taken", () => {
  const harness = new ServerHarness();
  harness.receive(harness.peer.headers(1, get));
  harness.codec.shutdownNotice();
  harness.receive(harness.peer.headers(3, get));
  harness.codec.goAway();
  assert.deepEqual(
    harness.written().filter((text) => text.startsWith("GOAWAY")),
    ["GOAWAY 0 3 0"],
  );
  harness.receive(harness.peer.headers(5, post, false), data(5, "x"), word(frameType.windowUpdate, 5, 1));
  assert.equal(harness.streams.length, 2);
  assert.equal(harness.settings.stats.goaway_sent.value, 1);
});

test("attacks end the connection, and nothing else", () => {
  const empty = frame(frameType.data, 0, 1);
  const attacks: [string, (harness: ServerHarness) => Buffer[], string][] = [
    ["inbound_priority_frames_flood", () => new Array(300).fill(frame(frameType.priority, 0, 1, Buffer.alloc(5))), "codec_error:Too_many_PRIORITY_frames"],
    ["inbound_window_update_frames_flood", () => new Array(30).fill(word(frameType.windowUpdate, 1, 1)), "codec_error:Too_many_WINDOW_UPDATE_frames"],
    ["inbound_empty_frames_flood", () => [empty, empty], "http2.inbound_empty_frames_flood"],
    [
      "inbound_empty_frames_flood",
      ({ peer }) => [frame(frameType.headers, 0, 3, peer.block(get)), ...new Array(3).fill(frame(frameType.continuation, 0, 3))],
      "http2.inbound_empty_frames_flood",
    ],
  ];
  for (const [stat, frames, details] of attacks) {
    const harness = new ServerHarness();
    harness.receive(harness.peer.headers(1, post, false));
    const answer = harness.receive(...frames(harness));
    assert.match(answer.at(-1) ?? "", /^GOAWAY 0 [13] 11/, stat);
    assert.equal(harness.settings.stats[stat as "outbound_flood"].value, 1, stat);
    assert.equal(harness.streams[0].reset, `protocol_error ${details}`, stat);
    assert.equal(harness.connection.closedAs, "flush_and_delay", stat);
  }
});

test("a peer that makes us answer and does not read is cut off", () => {
  for (const one of [settingsFrame(), frame(frameType.ping, 0, 0, Buffer.alloc(8))]) {
    const harness = new ServerHarness({ maxOutboundControlFrames: 50 });
    harness.connection.writeBuffered = 1;
    harness.receive(...new Array(60).fill(one));
    assert.equal(harness.settings.stats.outbound_control_flood.value, 1);
    const reads = new ServerHarness({ maxOutboundControlFrames: 50 });
    reads.receive(...new Array(45).fill(one));
    assert.equal(reads.connection.closedAs, undefined);
  }
});

test("control frames beyond what time and traffic explain are a flood, also of one who reads", () => {
  const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
  const harness = new ServerHarness({ maxOutboundControlFrames: 50 });
  for (let second = 0; second < 20; second++) {
    harness.receive(...new Array(40).fill(ping));
    harness.pass(1000);
  }
  harness.receive(harness.peer.headers(1, post, false));
  for (let i = 0; i < 20; i++) harness.receive(...new Array(30).fill(data(1, "x")), ...new Array(30).fill(ping));
  // What we send counts as well.
  const { encoder } = harness.streams[0];
  encoder.encodeHeaders(new ResponseHeaders(200), false);
  for (let i = 0; i < 100; i++) {
    encoder.encodeData(Buffer.from("x"), false);
    harness.receive(ping);
  }
  assert.equal(harness.connection.closedAs, undefined);
  harness.receive(...new Array(150).fill(ping));
  assert.equal(harness.settings.stats.outbound_control_flood.value, 1);
});

test("many streams share what may wait", () => {
  const harness = new ServerHarness({}, 1000);
  harness.receive(settingsFrame(4, 0));
  for (let i = 0; i < 20; i++) {
    harness.receive(harness.peer.headers(1 + 2 * i, post, false));
    const stream = harness.streams[i];
    stream.encoder.encodeHeaders(new ResponseHeaders(200), false);
    while (stream.paused === 0) stream.encoder.encodeData(Buffer.alloc(400), false);
  }
  const waiting = harness.settings.stats.pending_send_bytes.value;
  assert.ok(waiting < 4000 + 1200 + 20 * 400, `${waiting} octets`);
  harness.receive(settingsFrame(4, 60_000), word(frameType.windowUpdate, 0, 100_000));
  assert.equal(harness.settings.stats.pending_send_bytes.value, 0);
  assert.deepEqual(new Set(harness.streams.map(({ paused }) => paused)), new Set([0]));
});

test("what leaves between turns is no backlog, however late the connection says so (TLS)", () => {
  const harness = new ServerHarness({ maxOutboundControlFrames: 50, maxOutboundFrames: 50 });
  const { connection } = harness;
  const write = connection.write.bind(connection);
  connection.write = (data) => {
    write(data);
    connection.writeBuffered = 1;
  };
  for (let turn = 0; turn < 10; turn++) {
    connection.writeBuffered = 0;
    harness.receive(...new Array(20).fill(frame(frameType.ping, 0, 0, Buffer.alloc(8))));
    harness.pass(1000);
  }
  assert.equal(connection.closedAs, undefined);
});

test("resets faster than stream_reset_rate, past stream_reset_burst, end the connection", () => {
  const harness = new ServerHarness({ resetBurst: 3, resetRate: 1 });
  const pair = (id: number): Buffer[] => [harness.peer.headers(id, get), word(frameType.rstStream, id, 8)];
  harness.receive(...pair(1), ...pair(3), ...pair(5));
  assert.equal(harness.connection.closedAs, undefined);
  harness.pass(1000);
  harness.receive(...pair(7));
  assert.equal(harness.connection.closedAs, undefined);
  assert.match(harness.receive(...pair(9)).at(-1) ?? "", /^GOAWAY/);
});

test("a block that never ends is given up with bounded memory", () => {
  const harness = new ServerHarness({ maxHeadBytes: 1000 });
  const part = Buffer.alloc(16_000, 0x40);
  harness.receive(frame(frameType.headers, 0, 1, part));
  let frames = 0;
  while (harness.connection.closedAs === undefined && frames < 100) {
    harness.receive(frame(frameType.continuation, 0, 1, part));
    frames++;
  }
  assert.ok(frames < 6, `${frames} frames`);
});

test("pings keep the connection, and one that is not answered ends it", () => {
  const harness = new ServerHarness({ pingIntervalMs: 1000, pingTimeoutMs: 300 });
  harness.pass(1100);
  assert.deepEqual(harness.written(), ["PING 0"]);
  harness.receive(frame(frameType.ping, flag.ack, 0, Buffer.alloc(8)));
  harness.pass(1100);
  assert.deepEqual(harness.written(), ["PING 0"]);
  harness.pass(400);
  assert.equal(harness.settings.stats.keepalive_timeout.value, 1);
  assert.equal(harness.connection.closedAs, "no_flush");
});

test("the connection ends: every stream hears it once", () => {
  const harness = new ServerHarness();
  harness.receive(harness.peer.headers(1, post, false), harness.peer.headers(3, get));
  harness.codec.onConnectionEnd();
  assert.deepEqual(
    harness.streams.map(({ reset }) => reset),
    ["connection_termination", "connection_termination"],
  );
  assert.equal(harness.settings.stats.streams_active.value, 0);
});
