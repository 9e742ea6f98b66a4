import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecoderFilterCallbacks, DownstreamWatermarkCallbacks, HttpFilter, LocalReply } from "../http/filter.ts";
import { RequestHeaders, type ResponseHeaders } from "../http/header-map.ts";
import { setLogSink } from "../log/log.ts";
import { createAdminHttpFilterFactory } from "./admin-filter.ts";
import { fakeServer, fakeStats } from "./fake-server.ts";
import type { AdminServer } from "./server.ts";

setLogSink({ write: () => {} }, 0);

/** What the filter sends, and the end of it. */
class Peer {
  headers: ResponseHeaders | undefined;
  body = "";
  pieces = 0;
  largest = 0;
  ended = false;
  reply: LocalReply | undefined;
  watermarks: DownstreamWatermarkCallbacks | undefined;
  readonly done: Promise<void>;
  #resolve!: () => void;
  constructor() {
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  readonly callbacks = {
    encodeHeaders: (headers: ResponseHeaders, endStream: boolean) => {
      this.headers = headers;
      if (endStream) this.#end();
    },
    encodeData: (data: Buffer, endStream: boolean) => {
      this.body += data.toString("utf8");
      this.pieces++;
      this.largest = Math.max(this.largest, data.length);
      if (endStream) this.#end();
    },
    sendLocalReply: (reply: LocalReply) => {
      this.reply = reply;
      this.#end();
    },
    addDownstreamWatermarkCallbacks: (callbacks: DownstreamWatermarkCallbacks) => {
      this.watermarks = callbacks;
    },
    resetStream: () => this.#end(),
  } as unknown as DecoderFilterCallbacks;
  #end(): void {
    this.ended = true;
    this.#resolve();
  }
}

function begin(server: AdminServer | undefined, method: string, path: string, fields: string[] = [], body?: string): { peer: Peer; filter: HttpFilter } {
  const filter = createAdminHttpFilterFactory(server)();
  const peer = new Peer();
  filter.setDecoderCallbacks?.(peer.callbacks);
  filter.decodeHeaders?.(new RequestHeaders(method, path, "127.0.0.1:9901", "http", fields), body === undefined);
  if (body !== undefined) filter.decodeData?.(Buffer.from(body), true);
  return { peer, filter };
}

async function ask(server: AdminServer | undefined, method: string, path: string, fields: string[] = [], body?: string): Promise<Peer> {
  const { peer, filter } = begin(server, method, path, fields, body);
  await peer.done;
  filter.onDestroy?.();
  return peer;
}

test("answers with Envoy's fields", async () => {
  const peer = await ask(fakeServer(), "GET", "/ready");
  assert.equal(peer.headers?.status, 200);
  assert.deepEqual(peer.headers?.list, [
    "content-type",
    "text/plain; charset=UTF-8",
    "cache-control",
    "no-cache, max-age=0",
    "x-content-type-options",
    "nosniff",
  ]);
  assert.equal(peer.body, "LIVE\n");
});

test("an unknown path is 404 with the list of commands", async () => {
  for (const path of ["/nothing", "/help/", "//", "/stats/"]) {
    const peer = await ask(fakeServer(), "GET", path);
    assert.equal(peer.headers?.status, 404);
    assert.match(peer.body, /^invalid path\. admin commands are:\n {2}\/: Admin home page\n {2}\/allocprofiler \(POST\): /);
  }
});

test("query and fragment are no part of the path", async () => {
  assert.equal((await ask(fakeServer(), "GET", "/ready?x=/y#z")).headers?.status, 200);
  assert.equal((await ask(fakeServer(), "GET", "/ready#frag")).headers?.status, 200);
});

test("what changes something needs POST", async () => {
  const server = fakeServer();
  for (const path of ["/quitquitquit", "/logging", "/healthcheck/fail", "/runtime_modify?a=b", "/cpuprofiler?enable=y", "/stats/recentlookups/enable"]) {
    for (const method of ["GET", "PUT", "DELETE"]) {
      const peer = await ask(server, method, path);
      assert.equal(peer.headers?.status, 405, path);
      assert.equal(peer.body, `Method ${method} not allowed, POST required.`);
    }
  }
  assert.deepEqual(server.calls, []);
});

test("foreign pages change nothing", async () => {
  const server = fakeServer();
  const peer = await ask(server, "POST", "/quitquitquit", ["origin", "http://evil.example"]);
  assert.equal(peer.headers?.status, 403);
  assert.match(peer.body, /another origin \(Origin: http:\/\/evil\.example\)/);
  assert.deepEqual(server.calls, []);
  assert.equal((await ask(server, "GET", "/ready", ["origin", "http://evil.example"])).headers?.status, 200, "reading is for the browser to refuse");
});

test("allow_paths is all that may be asked for, query included", async () => {
  const allowed = { matches: (path: string) => path === "/ready" || path.startsWith("/stats") };
  for (const [path, status] of [
    ["/ready", 200],
    ["/ready?x=y", 403],
    ["/stats/prometheus?filter=x", 200],
    ["/help", 403],
    ["/nothing", 403],
  ] as const) {
    const filter = createAdminHttpFilterFactory(fakeServer(), allowed)();
    const peer = new Peer();
    filter.setDecoderCallbacks?.(peer.callbacks);
    filter.decodeHeaders?.(new RequestHeaders("GET", path, "127.0.0.1:9901", "http", []), true);
    await peer.done;
    assert.equal(peer.headers?.status, status, path);
    if (status === 403) assert.equal(peer.body, `request to path ${path} not allowed`);
  }
});

test("HEAD has no body", async () => {
  const peer = await ask(fakeServer(), "HEAD", "/server_info");
  assert.equal(peer.headers?.status, 200);
  assert.equal(peer.body, "");
});

test("the server ends after the answer", async () => {
  const server = fakeServer();
  const peer = await ask(server, "POST", "/quitquitquit");
  assert.equal(peer.body, "OK\n");
  assert.deepEqual(server.calls, ["quit"]);
});

test("a form's parameters count where there is no query", async () => {
  const server = fakeServer();
  const form = ["content-type", "application/x-www-form-urlencoded"];
  assert.equal((await ask(server, "POST", "/runtime_modify", form, "a=1&b=%20x")).body, "OK\n");
  assert.equal((await ask(server, "POST", "/runtime_modify?c=2", form, "d=3")).body, "OK\n");
  assert.equal((await ask(server, "POST", "/runtime_modify", ["content-type", "text/plain"], "e=4")).headers?.status, 400);
  assert.deepEqual(server.calls, ['runtime [["a","1"],["b"," x"]]', 'runtime [["c","2"]]']);
});

test("a body beyond the limit is 413", async () => {
  const peer = await ask(fakeServer(), "POST", "/runtime_modify", [], "x".repeat(300_000));
  assert.equal(peer.reply?.status, 413);
});

test("long answers leave in bounded pieces, and wait for the reader", async () => {
  const stats = Array.from({ length: 20_000 }, (_, i) => ({
    name: `cluster.a_cluster_with_a_name.counter_${i}`,
    kind: "counter" as const,
    value: i,
    used: true,
  }));
  const { peer, filter } = begin(fakeServer("", { stats: fakeStats(stats) }), "GET", "/stats");
  assert.equal(peer.pieces, 1, "the first piece leaves at once");
  peer.watermarks?.onAboveWriteBufferHighWatermark();
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const held = peer.pieces;
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.equal(peer.pieces, held, "nothing leaves above the mark");
  assert.equal(peer.ended, false);
  peer.watermarks?.onBelowWriteBufferLowWatermark();
  await peer.done;
  filter.onDestroy?.();
  assert.ok(peer.largest < 70_000, `${peer.largest}`);
  assert.equal(peer.body.split("\n").length, 20_001);
});

test("a client that goes away ends the work", async () => {
  let made = 0;
  const stats = fakeStats();
  const source = {
    ...stats,
    *stats() {
      for (;;) {
        made++;
        yield { name: "x".repeat(1000), kind: "counter" as const, value: 1, used: true };
      }
    },
  };
  const { filter } = begin(fakeServer("", { stats: source }), "GET", "/stats");
  filter.onDestroy?.();
  const at = made;
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  assert.equal(made, at);
});

test("a failing handler is 500 without its reasons", async () => {
  const server = fakeServer("", {
    clusters: () => {
      throw new Error("secret reason");
    },
  });
  const peer = await ask(server, "GET", "/clusters");
  assert.equal(peer.headers?.status, 500);
  assert.doesNotMatch(peer.body, /secret/);
});

test("without a server: 503", async () => {
  assert.equal((await ask(undefined, "GET", "/ready")).headers?.status, 503);
});
