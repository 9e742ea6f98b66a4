import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecoderFilterCallbacks, EncoderFilterCallbacks, HttpFilter } from "../filter.ts";
import { ResponseHeaders, type Trailers } from "../header-map.ts";
import { managerHarness } from "./testing.ts";

const get = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n";
const turn = (): Promise<void> => new Promise((resolve) => queueMicrotask(() => queueMicrotask(resolve)));

/** A terminal filter that answers once the request is complete, with what it got. */
class Answer implements HttpFilter {
  callbacks!: DecoderFilterCallbacks;
  body = "";
  readonly seen: string[] = [];
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.callbacks = callbacks;
  }
  decodeHeaders(_headers: unknown, endStream: boolean): "stop" {
    this.seen.push(`headers ${endStream}`);
    if (endStream) this.#answer();
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    this.body += data.toString();
    this.seen.push(`data ${data} ${endStream}`);
    if (endStream) this.#answer();
    return "stop_no_buffer";
  }
  decodeTrailers(trailers: Trailers): "stop" {
    this.seen.push(`trailers ${trailers.list.join("=")}`);
    this.#answer();
    return "stop";
  }
  #answer(): void {
    const body = Buffer.from(`got ${this.body}`);
    this.callbacks.encodeHeaders(new ResponseHeaders(200, ["content-length", String(body.length), "connection", "x"]), false, "via_test");
    this.callbacks.encodeData(body, true);
  }
}

/** Answers nothing: what is measured is what the manager does by itself. */
const silent = (): HttpFilter => ({ decodeHeaders: () => "stop", decodeData: () => "stop_no_buffer" });

test("a request is answered, counted and logged, and the connection goes on", async () => {
  const { receive, logged, settings, connection } = managerHarness([() => new Answer()]);
  const answer = receive(get);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(answer, /\r\nserver: envoy\r\n/);
  assert.match(answer, /\r\ndate: Thu, 01 Jan 2026/);
  assert.doesNotMatch(answer, /connection:/);
  assert.match(answer, /\r\n\r\ngot $/);
  assert.equal(logged.length, 1);
  assert.equal(logged[0].details, "via_test");
  assert.equal(settings.stats.downstream_rq_2xx.value, 1);
  assert.equal(settings.stats.downstream_rq_active.value, 0);
  connection.written = "";
  await turn();
  assert.match(receive(get), /200 OK/);
  assert.equal(connection.state, "open");
});

test("pipelined requests are answered in order", async () => {
  const { receive, connection, logged } = managerHarness([() => new Answer()]);
  receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n2");
  await turn();
  assert.equal(connection.written.match(/got \d/g)?.join(), "got 1,got 2");
  assert.equal(logged.length, 2);
});

test("a refused request gets 400, a protocol error flag, a log line and the end of the connection", () => {
  const { receive, logged, connection } = managerHarness([() => new Answer()]);
  assert.match(receive("GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"), /^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*connection: close\r\n/);
  assert.equal(logged.length, 1);
  assert.equal(logged[0].info.hasFlag("DPE"), true);
  assert.equal(connection.closedAs, "flush_and_delay");
});

test("requests without a host, with a fragment, for no path are refused by the manager, in Envoy's words", () => {
  for (const [line, status, details] of [
    ["GET /a HTTP/1.1\r\n\r\n", 400, "missing_host_header"],
    ["GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n", 400, "path_normalization_failed"],
    ["OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404, "absolute_path_rejected"],
  ] as const) {
    const { receive, logged, settings } = managerHarness([() => new Answer()]);
    assert.match(receive(line), new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*content-length: 0\r\n`));
    assert.equal(logged[0].details, details);
    assert.equal(logged[0].info.hasFlag("DPE"), false);
    assert.equal(settings.stats.downstream_rq_failed_path_normalization.value, details === "path_normalization_failed" ? 1 : 0);
  }
});

test("fields that one line can hold are combined, others are left as they came", () => {
  let seen = "";
  const look = (): HttpFilter => ({
    decodeHeaders: (headers) => {
      seen = `${headers.getAll("user-agent").join("|")} ${headers.getAll("x-forwarded-for").join("|")} ${headers.getAll("x-a").join("|")}`;
      return "stop";
    },
  });
  managerHarness([look]).receive(
    "GET /a HTTP/1.1\r\nhost: x\r\nuser-agent: t\r\nx-a: 1\r\nx-forwarded-for: 10.0.0.1\r\nuser-agent: \r\nuser-agent: u\r\nx-a: 2\r\nx-forwarded-for: 10.0.0.2, 10.0.0.3\r\n\r\n",
  );
  assert.equal(seen, "t,u 10.0.0.1,10.0.0.2, 10.0.0.3 1|2");
});

test("the answer to HEAD that has no length may be chunked", () => {
  const none = (): HttpFilter => ({
    setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
      queueMicrotask(() => callbacks.encodeHeaders(new ResponseHeaders(200), true, "via_test"));
    },
    decodeHeaders: () => "stop",
  });
  const { receive, connection } = managerHarness([none]);
  receive("HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n");
  return turn().then(() => assert.match(connection.written, /^HTTP\/1\.1 200 OK[\s\S]*\r\ntransfer-encoding: chunked\r\n/));
});

test("replies of our own pass every filter's encode side", () => {
  const tags: string[] = [];
  const tag = (name: string): HttpFilter => ({
    encodeHeaders: (headers) => {
      tags.push(name);
      headers.add("x-tag", name);
      return "continue";
    },
    onLocalReply: (status, details) => void tags.push(`${name}:${status}:${details}`),
  });
  let callbacks: DecoderFilterCallbacks | undefined;
  const deny: HttpFilter = {
    setDecoderCallbacks: (given) => {
      callbacks = given;
    },
    decodeHeaders: () => {
      callbacks?.sendLocalReply({ status: 403, body: "no", details: "denied" });
      return "stop";
    },
  };
  const { receive } = managerHarness([() => tag("a"), () => deny, () => tag("b")]);
  assert.match(receive(get), /^HTTP\/1\.1 403 Forbidden\r\nx-tag: b\r\nx-tag: a\r\ncontent-length: 2\r\ncontent-type: text\/plain\r\n|x-tag: b/);
  assert.deepEqual(tags, ["a:403:denied", "b:403:denied", "b", "a"]);
});

test("a filter that stops and buffers is continued with the whole body", () => {
  let answer: Answer | undefined;
  let callbacks!: DecoderFilterCallbacks;
  const hold: HttpFilter = {
    setDecoderCallbacks: (given) => {
      callbacks = given;
    },
    decodeHeaders: (_headers, end) => (end ? "continue" : "stop"),
    decodeData: (_data, end) => (end ? "continue" : "stop_and_buffer"),
  };
  const { receive } = managerHarness([
    () => hold,
    () => {
      answer = new Answer();
      return answer;
    },
  ]);
  receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nab");
  assert.deepEqual(answer?.seen, []);
  assert.equal(callbacks.decodingBuffer()?.toString(), "ab");
  receive("cd");
  receive("ef");
  assert.deepEqual(answer?.seen, ["headers false", "data abcdef true"]);
});

test("over the limit a buffered request is answered 413", () => {
  const hold: HttpFilter = { decodeHeaders: () => "stop", decodeData: () => "stop_and_buffer" };
  const { receive, settings, connection } = managerHarness([() => hold], {}, { bufferLimit: 4 });
  assert.match(receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabcdef"), /^HTTP\/1\.1 413 Payload Too Large[\s\S]*Payload Too Large$/);
  assert.equal(settings.stats.downstream_rq_too_large.value, 1);
  assert.equal(connection.state, "closed");
});

test("with the streaming kind of stop the client is paused instead", () => {
  let callbacks!: DecoderFilterCallbacks;
  const hold: HttpFilter = {
    setDecoderCallbacks: (given) => {
      callbacks = given;
    },
    decodeHeaders: () => "stop_all_and_watermark",
  };
  const { receive, connection } = managerHarness([() => hold, () => new Answer()], {}, { bufferLimit: 4 });
  receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabcdef");
  assert.equal(connection.readDisabled, 1);
  callbacks.continueDecoding();
  assert.equal(connection.readDisabled, 0);
  assert.match(connection.written, /got abcdef$/);
});

test("a filter may add a body to a request that had none", () => {
  let answer: Answer | undefined;
  let callbacks!: DecoderFilterCallbacks;
  const add: HttpFilter = {
    setDecoderCallbacks: (given) => {
      callbacks = given;
    },
    decodeHeaders: () => {
      callbacks.addDecodedData(Buffer.from("new"), false);
      return "continue";
    },
  };
  const { receive } = managerHarness([
    () => add,
    () => {
      answer = new Answer();
      return answer;
    },
  ]);
  receive(get);
  assert.deepEqual(answer?.seen, ["headers false", "data new true"]);
});

test("a response is held and changed by a filter", () => {
  let callbacks!: EncoderFilterCallbacks;
  const hold: HttpFilter = {
    setEncoderCallbacks: (given) => {
      callbacks = given;
    },
    encodeHeaders: () => "stop",
    encodeData: (_data, end) => {
      if (!end) return "stop_and_buffer";
      callbacks.responseHeaders?.set("content-length", "3");
      callbacks.addEncodedData(Buffer.from("xyz"), false);
      callbacks.setEncodingBuffer(Buffer.from("xyz"));
      callbacks.continueEncoding();
      return "stop_no_buffer";
    },
  };
  const { receive } = managerHarness([() => hold, () => new Answer()]);
  assert.match(receive(get), /content-length: 3\r\n[\s\S]*\r\n\r\nxyz$/);
});

test("trailers arrive, and filters may add some", () => {
  let answer: Answer | undefined;
  const { receive } = managerHarness(
    [
      () => {
        answer = new Answer();
        return answer;
      },
    ],
    { http_protocol_options: { enable_trailers: true } },
  );
  receive("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n");
  assert.deepEqual(answer?.seen, ["headers false", "data hi false", "trailers x-t=1"]);
});

test("stream idle timeout: 408 while the request comes in, 504 after", () => {
  for (const [request, status] of [
    ["POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\na", 408],
    [get, 504],
  ] as const) {
    const { receive, pass, connection, logged, settings } = managerHarness([silent], { stream_idle_timeout: "1s" });
    receive(request);
    pass(900);
    assert.equal(connection.written, "");
    pass(200);
    assert.ok(connection.written.startsWith(`HTTP/1.1 ${status} `) && connection.written.endsWith("stream timeout"), connection.written);
    assert.equal(logged[0].info.hasFlag("SI"), true);
    assert.equal(settings.stats.downstream_rq_idle_timeout.value, 1);
  }
});

test("request_timeout, request_headers_timeout and max_stream_duration", () => {
  const slow = managerHarness([silent], { request_timeout: "1s" });
  slow.receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\na");
  slow.pass(1100);
  assert.match(slow.connection.written, /408 [\s\S]*request timeout$/);

  const head = managerHarness([silent], { request_headers_timeout: "1s" });
  head.receive("GET / HTTP/1.1\r\nho");
  head.pass(1100);
  assert.match(head.connection.written, /408 [\s\S]*request header timeout$/);
  assert.equal(head.logged[0].info.hasFlag("DPE"), false);

  const long = managerHarness([silent], { common_http_protocol_options: { max_stream_duration: "1s" } });
  long.receive(get);
  long.pass(1100);
  assert.equal(long.logged[0].details, "max_duration_timeout");
});

test("an idle connection is closed, a used one is not", async () => {
  const { receive, pass, connection, settings } = managerHarness([() => new Answer()], { common_http_protocol_options: { idle_timeout: "10s" } });
  pass(9000);
  receive(get);
  await turn();
  pass(9000);
  assert.equal(connection.state, "open");
  pass(1100);
  assert.equal(connection.state, "closed");
  assert.equal(settings.stats.downstream_cx_idle_timeout.value, 1);
});

test("draining, max_requests_per_connection and connection: close end the connection behind the response", () => {
  const cases = [
    managerHarness([() => new Answer()], {}, { drainClose: () => true }),
    managerHarness([() => new Answer()], { common_http_protocol_options: { max_requests_per_connection: 1 } }),
  ];
  for (const { receive, connection } of cases) {
    assert.match(receive(get), /connection: close\r\n/);
    assert.equal(connection.state, "closed");
  }
  const asked = managerHarness([() => new Answer()]);
  assert.match(asked.receive("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), /connection: close\r\n/);
  assert.equal(asked.connection.closedAs, "flush");
});

test("a client that goes away is logged with DC", () => {
  const { receive, connection, logged, settings } = managerHarness([silent]);
  receive(get);
  connection.closeByPeer();
  assert.equal(logged.length, 1);
  assert.equal(logged[0].info.hasFlag("DC"), true);
  assert.equal(logged[0].details, "downstream_remote_disconnect");
  assert.equal(settings.stats.downstream_cx_active.value, 0);
  assert.equal(settings.stats.downstream_rq_active.value, 0);
});

test("gRPC requests get replies of their kind", () => {
  const { receive } = managerHarness([], {
    route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] },
  });
  const answer = receive(
    "POST /x HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
  );
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(answer, /grpc-status: 7\r\n/);
});
