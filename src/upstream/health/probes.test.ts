import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttp2Server, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { type TestContext as NodeTest, test } from "node:test";
import { TimerWheel } from "../../net/timer-wheel.ts";
import { RuntimeSnapshot } from "../../runtime/runtime.ts";
import { StatsStore } from "../../stats/stats.ts";
import { testContext } from "../../testing/compile-context.ts";
import { flagNames, healthFlags } from "../host-health.ts";
import { assignment, compiled, until } from "../testing.ts";
import { HealthChecks } from "./health-checks.ts";

/** A server that is asked by checks of 5 ms; `results` are their outcomes. */
class Bed {
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel(undefined, 1);
  readonly results: string[] = [];
  readonly received: string[] = [];
  readonly sockets: Socket[] = [];
  server: Server | undefined;
  checks: HealthChecks | undefined;

  async start(t: NodeTest, check: object, answer: (socket: Socket, data: string) => void, endpoint: (port: number) => object = () => ({})): Promise<void> {
    const server = createServer((socket) => {
      this.sockets.push(socket);
      socket.on("error", () => {});
      socket.on("data", (data) => {
        this.received.push(data.toString("latin1"));
        answer(socket, data.toString("latin1"));
      });
    });
    this.server = server;
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    this.run(check, port, endpoint(port));
    t.after(() => this.close());
  }

  run(check: object, port: number, endpoint: object, cluster: object = {}): void {
    const context = Object.assign(testContext(), { stats: this.stats });
    const base = { timeout: "0.2s", interval: "0.005s", unhealthy_threshold: 1, healthy_threshold: 1 };
    const address = { socket_address: { address: "127.0.0.1", port_value: port } };
    const settings = compiled(
      { load_assignment: assignment({ endpoint: { address, ...endpoint } }), health_checks: [{ ...base, ...check }], ...cluster },
      context,
    );
    assert.deepEqual(context.findings, []);
    this.checks = new HealthChecks(settings, {
      timers: this.timers,
      runtime: { snapshot: new RuntimeSnapshot() },
      random: () => 0,
      hasTraffic: () => true,
      onResult: (host, _transition, healthy) => this.results.push(`${healthy} ${flagNames(host.flags).join(",")}`),
    });
    this.checks.add({ data: settings.staticHosts[0], flags: healthFlags.failed_active_hc });
  }

  async first(): Promise<string> {
    await until(() => this.results.length > 0);
    return this.results[0];
  }
  close(): void {
    this.checks?.close();
    this.timers.stop();
    for (const socket of this.sockets) socket.destroy();
    this.server?.close();
  }
}

const http = (more: object = {}): object => ({ http_health_check: { path: "/health", ...more } });
const reply = (status: number, body = "", ...fields: string[]): string =>
  `HTTP/1.1 ${status} X\r\n${fields.map((field) => `${field}\r\n`).join("")}content-length: ${body.length}\r\n\r\n${body}`;

test("an HTTP check asks over one connection, as Envoy does", async (t) => {
  const bed = new Bed();
  await bed.start(t, http(), (socket) => socket.write(reply(200)));
  assert.equal(await bed.first(), "true ");
  await until(() => bed.results.length >= 3);
  assert.equal(bed.sockets.length, 1);
  assert.equal(bed.received[0], "GET /health HTTP/1.1\r\nhost: service\r\nuser-agent: Envoy/HC\r\n\r\n");
});

test("host, method, body, headers, and a port of its own", async (t) => {
  const bed = new Bed();
  const headers = { request_headers_to_add: [{ header: { key: "x-via", value: "%UPSTREAM_HOST%" } }], request_headers_to_remove: ["user-agent"] };
  const endpoint = (port: number): object => ({
    address: { socket_address: { address: "127.0.0.1", port_value: 1 } },
    health_check_config: { port_value: port, hostname: "own.test" },
  });
  await bed.start(t, http({ host: "hc.test", method: "POST", send: { text: "6869" }, ...headers }), (socket) => socket.write(reply(200)), endpoint);
  assert.equal(await bed.first(), "true ");
  assert.equal(bed.received.join(""), "POST /health HTTP/1.1\r\nhost: own.test\r\nx-via: 127.0.0.1:1\r\ncontent-length: 2\r\n\r\nhi");
});

for (const [name, check, answer, expected] of [
  ["another status", http(), reply(204), "false failed_active_hc"],
  ["an expected status", http({ expected_statuses: [{ start: 200, end: 205 }] }), reply(204), "true "],
  ["a body that has what is wanted", http({ receive: [{ text: "4f4b" }, { binary: "RE9ORQ==" }] }), reply(200, "..OK..DONE.."), "true "],
  ["a body that has it in another order", http({ receive: [{ text: "4f4b" }, { binary: "RE9ORQ==" }] }), reply(200, "DONE OK"), "false failed_active_hc"],
  ["a body that has it too late", http({ receive: [{ text: "4f4b" }], response_buffer_size: 4 }), reply(200, "12345OK"), "false failed_active_hc"],
  ["a body without a bound", http({ receive: [{ text: "4f4b" }], response_buffer_size: 0 }), reply(200, `${"x".repeat(5000)}OK`), "true "],
  ["x-envoy-degraded", http(), reply(200, "", "x-envoy-degraded: 1"), "true degraded_active_hc"],
  [
    "x-envoy-immediate-health-check-fail",
    http(),
    reply(503, "", "x-envoy-immediate-health-check-fail: 1"),
    "false failed_active_hc,excluded_via_immediate_hc_fail",
  ],
  ["the right service", http({ service_name_matcher: { prefix: "sh" } }), reply(200, "", "x-envoy-upstream-healthchecked-cluster: shop"), "true "],
  ["another service", http({ service_name_matcher: { exact: "shop" } }), reply(200), "false failed_active_hc"],
  ["what is no HTTP", http(), "SSH-2.0-x\r\n\r\n", "false failed_active_hc"],
] as const) {
  test(`an HTTP check answered by ${name}`, async (t) => {
    const bed = new Bed();
    await bed.start(t, check, (socket) => socket.write(answer));
    assert.equal(await bed.first(), expected);
  });
}

test("an answer that ends with its connection, and a host that hangs up", async (t) => {
  const bed = new Bed();
  await bed.start(t, http({ receive: [{ text: "4f4b" }] }), (socket) => {
    if (bed.sockets.length % 2 === 1) socket.end("HTTP/1.1 200 OK\r\n\r\nOK");
    else socket.destroy();
  });
  await until(() => bed.results.length >= 4);
  assert.deepEqual(bed.results.slice(0, 4), ["true ", "false failed_active_hc", "true ", "false failed_active_hc"]);
  assert.equal(bed.stats.counter("cluster.service.health_check.network_failure").value >= 2, true);
});

test("reuse_connection: false takes a new connection for each check", async (t) => {
  const bed = new Bed();
  await bed.start(t, { ...http(), reuse_connection: false }, (socket) => socket.write(reply(200)));
  await until(() => bed.results.length >= 3);
  assert.ok(bed.sockets.length >= 3);
});

test("a silent host times out, and is asked over a new connection", async (t) => {
  const bed = new Bed();
  await bed.start(t, { ...http(), timeout: "0.01s" }, () => {});
  assert.equal(await bed.first(), "false failed_active_hc,active_hc_timeout");
  await until(() => bed.sockets.length >= 2);
});

test("a TCP check sends and waits for what is wanted, in pieces or not, over one connection", async (t) => {
  const bed = new Bed();
  const check = { tcp_health_check: { send: { text: "50494E47" }, receive: [{ text: "504F" }, { text: "4E47" }] } };
  await bed.start(t, check, (socket) => {
    socket.write("..PO");
    setImmediate(() => socket.write("NG"));
  });
  await until(() => bed.results.length >= 3);
  assert.deepEqual(bed.results.slice(0, 3), ["true ", "true ", "true "]);
  assert.equal(bed.sockets.length, 1);
  assert.equal(bed.received[0], "PING");
});

test("a Redis check asks PING, or whether a key is there", async (t) => {
  const check = (key: string): object => ({
    custom_health_check: { name: "redis", typed_config: { "@type": "type.googleapis.com/envoy.extensions.health_checkers.redis.v3.Redis", key } },
  });
  const ping = new Bed();
  await ping.start(t, check(""), (socket) => socket.write("+PONG\r\n"));
  await until(() => ping.results.length >= 2);
  assert.deepEqual([ping.results[1], ping.received[0], ping.sockets.length], ["true ", "*1\r\n$4\r\nPING\r\n", 1]);
  const absent = new Bed();
  await absent.start(t, check("é"), (socket) => {
    socket.write(":0");
    setImmediate(() => socket.write("\r\n"));
  });
  assert.equal(await absent.first(), "true ");
  assert.equal(Buffer.from(absent.received[0], "latin1").toString(), "*2\r\n$6\r\nEXISTS\r\n$2\r\né\r\n");
  const moved = new Bed();
  await moved.start(t, check("k"), (socket) => socket.write("-MOVED 1 127.0.0.1:2\r\n"));
  assert.equal(await moved.first(), "true ");
  for (const answer of [":1\r\n", "-NOAUTH\r\n", "x".repeat(2000)]) {
    const bed = new Bed();
    await bed.start(t, check("k"), (socket) => socket.write(answer));
    assert.equal(await bed.first(), "false failed_active_hc");
  }
});

test("a UDP check wants exactly one datagram; others mean nothing, and a closed port fails at once", async (t) => {
  const check = {
    custom_health_check: {
      name: "udp",
      typed_config: { "@type": "type.googleapis.com/envoy.extensions.health_checkers.udp.v3.UdpHealthCheck", send: { text: "5051" }, receive: { text: "52" } },
    },
    timeout: "0.03s",
  };
  const asked: string[] = [];
  const answering = async (...answers: string[]): Promise<number> => {
    const server = createSocket("udp4", (data, from) => {
      asked.push(data.toString());
      for (const answer of answers) server.send(answer, from.port, from.address);
    });
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    return server.address().port;
  };
  const result = async (port: number): Promise<string> => {
    const bed = new Bed();
    await bed.start(
      t,
      check,
      () => {},
      () => ({ health_check_config: { port_value: port } }),
    );
    return bed.first();
  };
  assert.equal(await result(await answering("x", "R")), "true ");
  assert.equal(asked[0], "PQ");
  assert.equal(await result(await answering("xRx")), "false failed_active_hc,active_hc_timeout");
  assert.equal(await result(await answering()), "false failed_active_hc,active_hc_timeout");
  const closed = createSocket("udp4");
  closed.bind(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address();
  closed.close();
  assert.equal(await result(port), "false failed_active_hc");
});

test("a TCP check answered by something else, by the end, or by nobody", async (t) => {
  const check = { timeout: "0.02s", tcp_health_check: { send: { text: "50" }, receive: [{ text: "51" }] } };
  const wrong = new Bed();
  await wrong.start(t, check, (socket) => socket.write("P"));
  assert.equal(await wrong.first(), "false failed_active_hc,active_hc_timeout");
  const ends = new Bed();
  await ends.start(t, check, (socket) => socket.end());
  assert.equal(await ends.first(), "false failed_active_hc");
  const nobody = new Bed();
  await nobody.start(
    t,
    { tcp_health_check: {} },
    () => {},
    () => ({ health_check_config: { port_value: 1 } }),
  );
  assert.equal(await nobody.first(), "false failed_active_hc");
});

test("a TCP check may only connect; a PROXY header goes first where it is asked for", async (t) => {
  const bed = new Bed();
  await bed.start(t, { tcp_health_check: {} }, () => {});
  assert.equal(await bed.first(), "true ");
  const v1 = new Bed();
  await v1.start(t, { tcp_health_check: { proxy_protocol_config: { version: "V1" }, receive: [{ text: "4F" }] } }, (socket) => socket.write("O"));
  assert.equal(await v1.first(), "true ");
  assert.match(v1.received[0], /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/);
  const v2 = new Bed();
  await v2.start(t, { tcp_health_check: { proxy_protocol_config: { version: "V2" }, receive: [{ text: "4F" }] } }, (socket) => socket.write("O"));
  assert.equal(await v2.first(), "true ");
  assert.equal(Buffer.from(v2.received[0], "latin1").toString("hex"), "0d0a0d0a000d0a515549540a20000000");
});

// ---- over HTTP/2 -----------------------------------------------------------------------------------------------------------------

const overHttp2 = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    explicit_http_config: { http2_protocol_options: {} },
  },
};

/** The outcome of the first check of a server of Node's own. */
async function askHttp2(t: NodeTest, check: object, answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Buffer) => void): Promise<string> {
  const server = createHttp2Server();
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("end", () => answer(stream, headers, Buffer.concat(parts)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bed = new Bed();
  t.after(() => {
    bed.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  bed.run(check, (server.address() as AddressInfo).port, {}, { typed_extension_protocol_options: overHttp2 });
  const first = await bed.first();
  await until(() => bed.results.length > 2);
  assert.equal(sessions.length, 1, "the connection is kept");
  return first;
}

function grpcAnswer(stream: ServerHttp2Stream, message: readonly number[], status = 0): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(status) }));
  stream.end(Buffer.from([0, 0, 0, 0, message.length, ...message]));
}

test("a gRPC check asks for a service", async (t) => {
  const asked: string[] = [];
  const check = { grpc_health_check: { service_name: "shop", authority: "hc.test", initial_metadata: [{ header: { key: "x-m", value: "1" } }] } };
  const outcome = await askHttp2(t, check, (stream, headers, body) => {
    asked.push(
      `${headers[":method"]} ${headers[":authority"]}${headers[":path"]} ${headers["content-type"]} ${headers.te} ${headers["x-m"]} ${body.toString("latin1")}`,
    );
    grpcAnswer(stream, [8, 1]);
  });
  assert.equal(outcome, "true ");
  assert.equal(asked[0], "POST hc.test/grpc.health.v1.Health/Check application/grpc trailers 1 \0\0\0\0\x06\x0a\x04shop");
});

for (const [what, answer] of [
  ["a service that does not serve", (stream: ServerHttp2Stream) => grpcAnswer(stream, [8, 2])],
  ["an unknown state", (stream: ServerHttp2Stream) => grpcAnswer(stream, [])],
  ["what is no answer", (stream: ServerHttp2Stream) => grpcAnswer(stream, [9, 9, 9])],
  ["another status", (stream: ServerHttp2Stream) => grpcAnswer(stream, [8, 1], 5)],
  ["a head alone", (stream: ServerHttp2Stream) => stream.respond({ ":status": 200, "grpc-status": "12" }, { endStream: true })],
] as const)
  test(`a gRPC check fails: ${what}`, async (t) => {
    assert.equal(await askHttp2(t, { grpc_health_check: {} }, answer), "false failed_active_hc");
  });

test("codec_client_type: HTTP2", async (t) => {
  const outcome = await askHttp2(t, http({ codec_client_type: "HTTP2" }), (stream, headers) => {
    stream.respond({ ":status": headers[":path"] === "/health" ? 200 : 404 });
    stream.end("fine");
  });
  assert.equal(outcome, "true ");
});
