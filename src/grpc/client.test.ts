import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { message, testContext } from "../testing/compile-context.ts";
import { assignment, TestCluster, until } from "../upstream/testing.ts";
import { type GrpcAnswer, type GrpcCallOptions, GrpcClient } from "./client.ts";
import { frameMessage, MessageReader } from "./frames.ts";
import { compileGrpcService } from "./service.ts";
import type { GrpcStatus } from "./status.ts";

const timeout = { timeout: 10_000 };

interface Bed {
  readonly client: GrpcClient;
  readonly cluster: TestCluster;
  readonly seen: IncomingHttpHeaders[];
}

async function bed(t: TestContext, answer: (stream: ServerHttp2Stream) => void, service: object = {}, envoyGrpc: object = {}): Promise<Bed> {
  const server = createServer();
  const sessions: ServerHttp2Session[] = [];
  const seen: IncomingHttpHeaders[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    seen.push(headers);
    answer(stream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cluster = new TestCluster({
    load_assignment: assignment((server.address() as AddressInfo).port),
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  });
  t.after(() => {
    cluster.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  const settings = compileGrpcService(
    message("envoy.config.core.v3.GrpcService", { envoy_grpc: { cluster_name: "service", ...envoyGrpc }, ...service }),
    testContext(),
  );
  assert.ok(settings !== undefined);
  const client = new GrpcClient({ get: (name) => (name === "service" ? cluster.core : undefined) }, settings);
  return { client, cluster, seen };
}

/** Answers with messages and a status in trailers. */
function reply(stream: ServerHttp2Stream, messages: readonly string[], status = 0, text = ""): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(status), ...(text !== "" && { "grpc-message": text }) }));
  for (const one of messages) stream.write(frameMessage(Buffer.from(one)));
  stream.end();
}

function ask(client: GrpcClient, options: GrpcCallOptions = {}): Promise<GrpcAnswer> {
  return new Promise((resolve) => client.unary("pkg.Service", "Method", Buffer.from("question"), options, resolve));
}

test("a question and its answer", timeout, async (t) => {
  const questions: string[] = [];
  const { client, seen } = await bed(
    t,
    (stream) => {
      const parts: Buffer[] = [];
      stream.on("data", (part: Buffer) => parts.push(part));
      stream.on("end", () => {
        questions.push(Buffer.concat(parts).toString("latin1"));
        reply(stream, ["answer"]);
      });
    },
    { initial_metadata: [{ key: "x-token", value: "t" }], timeout: "1.5s" },
    { authority: "auth.test" },
  );
  const answer = await ask(client);
  assert.ok(answer.ok);
  assert.equal(answer.message.toString(), "answer");
  assert.deepEqual(questions, ["\0\0\0\0\x08question"]);
  const [head] = seen;
  assert.deepEqual(
    [head[":method"], head[":path"], head[":authority"], head["content-type"], head.te, head["grpc-timeout"], head["x-token"], head["x-envoy-internal"]],
    ["POST", "/pkg.Service/Method", "auth.test", "application/grpc", "trailers", "1500m", "t", "true"],
  );
});

test("failures have a status", timeout, async (t) => {
  let how: (stream: ServerHttp2Stream) => void = () => {};
  const { client, cluster } = await bed(t, (stream) => how(stream), {}, { max_receive_message_length: 10, skip_envoy_headers: true });
  const failure = async (next: typeof how, options?: GrpcCallOptions): Promise<GrpcStatus | undefined> => {
    how = next;
    const answer = await ask(client, options);
    return answer.ok ? undefined : answer.status;
  };
  assert.deepEqual(await failure((stream) => reply(stream, [], 7, "no%20way%21")), { code: 7, message: "no way!" });
  assert.deepEqual(await failure((stream) => stream.respond({ ":status": 200, "grpc-status": "5", "grpc-message": "gone" }, { endStream: true })), {
    code: 5,
    message: "gone",
  });
  assert.equal((await failure((stream) => stream.respond({ ":status": 503 }, { endStream: true })))?.code, 14);
  assert.equal((await failure((stream) => reply(stream, ["more than ten octets"])))?.code, 8);
  assert.equal((await failure(compressed))?.code, 13);
  assert.equal((await failure((stream) => stream.close(2)))?.code, 14);
  assert.equal((await failure(() => {}, { timeoutMs: 20 }))?.code, 4);
  assert.equal((await failure((stream) => reply(stream, [])))?.code, 13);
  cluster.update([]);
  assert.deepEqual(await failure(() => {}), { code: 14, message: "no healthy upstream" });
});

function compressed(stream: ServerHttp2Stream): void {
  stream.respond({ ":status": 200 });
  stream.end("\x01\0\0\0\0");
}

test("messages both ways, and the end of either side", timeout, async (t) => {
  const { client } = await bed(t, (stream) => {
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    const reader = new MessageReader(0);
    stream.on("data", (part: Buffer) => {
      reader.feed(part, (one) => stream.write(frameMessage(Buffer.from(`${one} back`))));
    });
    stream.on("end", () => stream.end());
  });
  const got: string[] = [];
  let status: GrpcStatus | undefined;
  const stream = client.stream("s.S", "Chat", {}, { onMessage: (one) => got.push(one.toString()), onClose: (end) => void (status = end) });
  stream.send(Buffer.from("one"));
  stream.send(Buffer.from("two"));
  await until(() => got.length === 2);
  stream.send(Buffer.from("three"));
  await until(() => got.length === 3);
  assert.deepEqual(got, ["one back", "two back", "three back"]);
  stream.end();
  await until(() => status !== undefined);
  assert.equal(status?.code, 0);
});

test("a call that is reset hears nothing more, and its peer does", timeout, async (t) => {
  let begun = 0;
  let closed = 0;
  const { client } = await bed(t, (stream) => {
    begun++;
    stream.on("close", () => closed++);
  });
  const stream = client.stream("s.S", "Chat", {}, { onMessage: () => assert.fail("a message"), onClose: () => assert.fail("a close") });
  stream.send(Buffer.from("x"));
  await until(() => begun === 1);
  stream.reset();
  await until(() => closed === 1);
});

test("messages are read whole, however they are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (messages, sizes) => {
        const bytes = Buffer.concat(messages.map(frameMessage));
        const reader = new MessageReader(300);
        const seen: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length];
          assert.equal(
            reader.feed(bytes.subarray(at, at + size), (one) => seen.push(Buffer.from(one)) > 0),
            undefined,
          );
          at += size;
        }
        assert.ok(reader.isBetweenMessages);
        assert.deepEqual(
          seen,
          messages.map((one) => Buffer.from(one)),
        );
      },
    ),
  );
});
