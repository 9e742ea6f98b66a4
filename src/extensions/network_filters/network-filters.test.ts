/** The small network filters, on real connections. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { Client, echo, logged, says, TestListeners, talk, typed, until } from "../../listener/testing.ts";
import type { ThreadLocalCluster } from "../../upstream/upstream.ts";
import { BucketRule, SharedCount, SharedTokenBucket } from "../shared-cells.ts";

function listeners(t: TestContext): TestListeners {
  const made = new TestListeners();
  t.after(() => made.close());
  return made;
}
/** "" for any kind of being closed without a byte. */
const quiet = (text: string): string => text.replace("(ECONNRESET)", "");

test("direct_response says its text and closes", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    access_log: [logged("%RESPONSE_CODE_DETAILS% %BYTES_SENT%\n")],
    filter_chains: [{ filters: [says("closed for today\n")] }],
  });
  assert.equal(await talk(port), "closed for today\n");
  await until(() => proxy.lines.length === 1);
  assert.deepEqual(proxy.lines, ["direct_response 17\n"]);
});

test("connection_limit lets so many in and closes the rest, at once or after a delay", async (t) => {
  const proxy = listeners(t);
  const limit = (more: object = {}): object => typed("network.connection_limit.v3.ConnectionLimit", { stat_prefix: "limit", max_connections: 1, ...more });
  const { port } = await proxy.start({ filter_chains: [{ filters: [limit(), echo] }] });
  const first = new Client(port, "a");
  await until(() => first.text === "a");
  assert.equal(quiet(await talk(port, "b")), "");
  assert.equal(proxy.stat("connection_limit.limit.limited_connections"), 1);
  assert.equal(proxy.gauge("connection_limit.limit.active_connections"), 1);
  first.close();
  await until(() => proxy.gauge("connection_limit.limit.active_connections") === 0);
  const next = new Client(port, "c");
  await until(() => next.text === "c");
  next.close();

  const { port: patient } = await proxy.start({ filter_chains: [{ filters: [limit({ delay: "0.05s" }), echo] }] });
  const holder = new Client(patient, "a");
  await until(() => holder.text === "a");
  const started = performance.now();
  assert.equal(quiet(await talk(patient, "b")), "");
  assert.ok(performance.now() - started >= 45);
  holder.close();

  proxy.setRuntime({ "limit.on": false });
  const { port: off } = await proxy.start({
    filter_chains: [{ filters: [limit({ runtime_enabled: { runtime_key: "limit.on", default_value: true } }), echo] }],
  });
  const both = [new Client(off, "a"), new Client(off, "b")];
  await until(() => both.every((client) => client.text !== ""));
  for (const client of both) client.close();
});

test("local_ratelimit takes a token per connection", async (t) => {
  const proxy = listeners(t);
  const token_bucket = { max_tokens: 2, fill_interval: "3600s" };
  const filter = typed("network.local_ratelimit.v3.LocalRateLimit", { stat_prefix: "few", token_bucket });
  const { port } = await proxy.start({ access_log: [logged("%RESPONSE_FLAGS%\n")], filter_chains: [{ filters: [filter, says("in")] }] });
  assert.deepEqual([await talk(port), await talk(port), quiet(await talk(port))], ["in", "in", ""]);
  assert.equal(proxy.stat("local_rate_limit.few.rate_limited"), 1);
  await until(() => proxy.lines.length === 3);
  assert.deepEqual(proxy.lines, ["-\n", "-\n", "URX\n"]);

  const early = typed("listener.local_ratelimit.v3.LocalRateLimit", { stat_prefix: "early", token_bucket });
  const { port: listener } = await proxy.start({ listener_filters: [early], filter_chains: [{ filters: [says("in")] }] });
  assert.deepEqual([await talk(listener), await talk(listener), quiet(await talk(listener))], ["in", "in", ""]);
  assert.equal(proxy.stat("listener_local_ratelimit.early.rate_limited"), 1);
  await proxy.compile({
    filter_chains: [
      { filters: [typed("network.local_ratelimit.v3.LocalRateLimit", { stat_prefix: "s", token_bucket: { max_tokens: 1, fill_interval: "0.01s" } }), echo] },
    ],
  });
  assert.match(proxy.findings.join("\n"), /fill timer must be >= 50ms/);
});

test("sni_cluster names the cluster by what the client asked for", async (t) => {
  const proxy = listeners(t);
  const asked: string[] = [];
  proxy.clusters.get = (name: string): ThreadLocalCluster | undefined => {
    asked.push(name);
    return undefined;
  };
  const { port } = await proxy.start({
    listener_filters: [typed("listener.tls_inspector.v3.TlsInspector")],
    filter_chains: [
      { filters: [typed("network.sni_cluster.v3.SniCluster"), typed("network.tcp_proxy.v3.TcpProxy", { stat_prefix: "t", cluster: "otherwise" })] },
    ],
  });
  const client = connectTls({ port, host: "127.0.0.1", servername: "One.test" });
  await new Promise((resolve) => client.once("error", resolve));
  await talk(port, "plain");
  assert.deepEqual(asked, ["one.test", "otherwise"]);
});

test("a client that echoes to itself and does not read is not read from", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({ per_connection_buffer_limit_bytes: 16384, filter_chains: [{ filters: [echo] }] });
  const client = new Client(port);
  client.socket.pause();
  const chunk = Buffer.alloc(65536, 97);
  let sent = 0;
  // Until the kernel's buffers and ours are full.
  while (sent < 64 * 1024 * 1024) {
    sent += chunk.length;
    if (client.socket.write(chunk)) continue;
    const drained = await Promise.race([
      new Promise<boolean>((resolve) => client.socket.once("drain", () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 100)),
    ]);
    if (!drained) break;
  }
  assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
  client.socket.resume();
  await until(() => client.text.length === sent);
  client.close();
});

test("a shared count never exceeds its limit, and what a dead worker held comes back", () => {
  const message = {};
  const [a, b] = [new SharedCount(message, 2, 0), new SharedCount(message, 2, 1)];
  assert.deepEqual([a.tryAdd(3), b.tryAdd(3), b.tryAdd(3), a.tryAdd(3)], [true, true, true, false]);
  assert.equal(new SharedCount(message, 2, 1).value, 1);
  assert.deepEqual([a.tryAdd(3), a.tryAdd(3), a.tryAdd(3)], [true, true, false]);
  a.remove();
  assert.equal(a.value, 2);
});

test("a token bucket fills evenly up to its size", () => {
  let now = 1_000_000_000n;
  const bucket = new SharedTokenBucket({}, new BucketRule(3, 1, 100), () => now);
  const take = (times: number): number => Array.from({ length: times }, () => bucket.take()).filter(Boolean).length;
  assert.equal(take(5), 3);
  now += 99_000_000n;
  assert.equal(take(1), 0);
  now += 1_000_000n;
  assert.equal(take(2), 1);
  now += 250_000_000n;
  assert.equal(take(5), 2);
  now += 50_000_000n;
  assert.equal(take(2), 1);
  now += 1_000_000_000_000n;
  assert.equal(take(9), 3);
});
