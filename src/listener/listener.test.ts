import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { server } from "../net/tls/testing.ts";
import { nativeSockets } from "./native-sockets.ts";
import { Client, echo, freePort, logged, says, TestListeners, talk, typed, until } from "./testing.ts";

function listeners(t: TestContext): TestListeners {
  const made = new TestListeners();
  t.after(() => made.close());
  return made;
}
const tls = {
  name: "tls",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    common_tls_context: { tls_certificates: [{ certificate_chain: { inline_string: server.cert }, private_key: { inline_string: server.key } }] },
  },
};
const proxyProtocol = typed("listener.proxy_protocol.v3.ProxyProtocol");
const httpInspector = typed("listener.http_inspector.v3.HttpInspector");

test("accepts, counts and forgets connections", async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  const client = new Client(port, "hello");
  await until(() => client.text === "hello");
  assert.equal(proxy.listenerStat("downstream_cx_total"), 1);
  assert.equal(proxy.gauge("listener.test.downstream_cx_active"), 1);
  assert.equal(proxy.listenerStat("worker_0.downstream_cx_total"), 1);
  assert.equal(listener.connectionCount, 1);
  client.close();
  await until(() => listener.connectionCount === 0);
  assert.equal(proxy.gauge("listener.test.downstream_cx_active"), 0);
  assert.equal(proxy.listenerStat("downstream_cx_destroy"), 1);
  assert.equal(proxy.timers.armed, 0);
});

test("a connection that no chain takes is closed and logged", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    access_log: [logged("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %ACCESS_LOG_TYPE%\n")],
    filter_chains: [{ filter_chain_match: { destination_port: 1 }, filters: [echo] }],
  });
  assert.equal(await talk(port), "");
  assert.equal(proxy.listenerStat("no_filter_chain_match"), 1);
  assert.equal(proxy.listenerStat("downstream_cx_total"), 0);
  assert.deepEqual(proxy.lines, ["NR filter_chain_not_found NotSet\n"]);
});

test("a chain without filters closes", async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{}] });
  assert.equal(await talk(port), "");
  await until(() => listener.connectionCount === 0);
});

test("bytes that were looked at are read again", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    listener_filters: [proxyProtocol, httpInspector],
    filter_chains: [{ filter_chain_match: { application_protocols: ["http/1.1"] }, filters: [echo] }],
    default_filter_chain: { filters: [says("no HTTP")] },
  });
  // Every cut of the head comes through whole, the header in front of it taken away.
  const head = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  const bytes = `PROXY TCP4 203.0.113.7 198.51.100.1 4444 80\r\n${head}`;
  for (let cut = 0; cut <= bytes.length; cut += 7) {
    const client = new Client(port, bytes.slice(0, cut));
    await until(
      () => !client.socket.connecting && proxy.gauge("listener.test.downstream_pre_cx_active") + proxy.gauge("listener.test.downstream_cx_active") > 0,
    );
    client.send(bytes.slice(cut));
    await until(() => client.text.length >= head.length);
    assert.equal(client.text, head);
    client.close();
    await until(() => proxy.gauge("listener.test.downstream_cx_active") === 0);
  }
  assert.equal(await talk(port, "PROXY UNKNOWN\r\n\0\0\0"), "no HTTP");
});

test("PROXY headers set the addresses that logs and filters see", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    access_log: [logged("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\n")],
    listener_filters: [proxyProtocol],
    filter_chains: [
      { filter_chain_match: { source_prefix_ranges: [{ address_prefix: "203.0.113.0", prefix_len: 24 }] }, filters: [says("known")] },
      { filters: [says("unknown")] },
    ],
  });
  assert.equal(await talk(port, "PROXY TCP4 203.0.113.7 198.51.100.1 4444 80\r\n"), "known");
  assert.equal(await talk(port, "PROXY UNKNOWN\r\n"), "unknown");
  await until(() => proxy.lines.length === 2);
  assert.equal(proxy.lines[0], "203.0.113.7:4444 198.51.100.1:80 127.0.0.1\n");
});

test("refusals of listener filters are counted where Envoy counts them, and logged", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    access_log: [logged("%RESPONSE_FLAGS%\n")],
    listener_filters: [proxyProtocol],
    filter_chains: [{ filters: [echo] }],
  });
  assert.equal((await talk(port, "GET / HTTP/1.1\r\n\r\n")).replace("(ECONNRESET)", ""), "");
  assert.equal(proxy.stat("proxy_proto.not_found_disallowed"), 1);
  assert.equal(proxy.stat("downstream_cx_proxy_proto_error"), 1);
  assert.equal(proxy.listenerStat("downstream_listener_filter_error"), 0);
  assert.equal((await talk(port, "PROXY nonsense\r\n")).replace("(ECONNRESET)", ""), "");
  assert.equal(proxy.stat("proxy_proto.versions.v1.error"), 1);
  const early = new Client(port, "PROXY");
  early.socket.end();
  assert.equal(await early.ended, "ECONNRESET");
  assert.equal(proxy.listenerStat("downstream_listener_filter_remote_close"), 1);
  assert.equal(proxy.gauge("listener.test.downstream_pre_cx_active"), 0);
  assert.equal(proxy.listenerStat("downstream_cx_total"), 0);
  assert.deepEqual(proxy.lines, ["-\n", "-\n", "-\n"]);
});

test("listener filters have a time, after which connections are dropped or go on", async (t) => {
  const proxy = listeners(t);
  const timed = { listener_filters: [httpInspector], listener_filters_timeout: "0.05s", filter_chains: [{ filters: [echo] }] };
  const { port } = await proxy.start(timed);
  assert.equal(await talk(port), "");
  assert.equal(proxy.listenerStat("downstream_pre_cx_timeout"), 1);
  const { port: patient } = await proxy.start({ ...timed, continue_on_listener_filters_timeout: true });
  const client = new Client(patient, "GE");
  await until(() => client.text === "GE");
  client.send("T");
  await until(() => client.text === "GET");
  client.close();
});

test("a client that sends no hello is not waited for longer than transport_socket_connect_timeout", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({ filter_chains: [{ filters: [echo], transport_socket_connect_timeout: "0.05s", transport_socket: tls }] });
  const how = await new Client(port).ended;
  assert.ok(how === "eof" || how === "ECONNRESET", how);
  assert.equal(proxy.listenerStat("downstream_cx_transport_socket_connect_timeout"), 1);
});

test("TLS and plain clients share a port by what their first bytes are", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({
    access_log: [logged("%REQUESTED_SERVER_NAME% %FILTER_CHAIN_NAME% %TLS_JA4_FINGERPRINT%\n")],
    listener_filters: [typed("listener.tls_inspector.v3.TlsInspector", { enable_ja3_fingerprinting: true, enable_ja4_fingerprinting: true })],
    filter_chains: [
      { name: "named", filter_chain_match: { server_names: ["a.test"] }, transport_socket: tls, filters: [says("named")] },
      { name: "tls", filter_chain_match: { transport_protocol: "tls" }, transport_socket: tls, filters: [says("tls")] },
      { name: "plain", filters: [says("plain")] },
    ],
  });
  const secure = async (servername: string): Promise<string> => {
    const socket = connectTls({ port, host: "127.0.0.1", servername, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
    let text = "";
    for await (const chunk of socket) text += String(chunk);
    return text;
  };
  assert.equal(await secure("a.test"), "named");
  assert.equal(await secure("b.test"), "tls");
  assert.equal(await talk(port, "hello"), "plain");
  assert.deepEqual(
    ["tls_found", "tls_not_found", "sni_found", "alpn_found"].map((name) => proxy.stat(`tls_inspector.${name}`)),
    [2, 1, 2, 2],
  );
  await until(() => proxy.lines.length === 3);
  assert.match(proxy.lines[0], /^a\.test named t13d\d{4}h1_[0-9a-f]{12}_[0-9a-f]{12}\n$/);
  assert.equal(proxy.lines[2], "- plain -\n");
});

test("a runtime key limits a listener's connections, over all of them", async (t) => {
  const proxy = listeners(t);
  proxy.setRuntime({ "envoy.resource_limits.listener.test.connection_limit": 2 });
  const { port } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  const clients = [new Client(port, "a"), new Client(port, "b")];
  await until(() => clients.every((client) => client.text !== ""));
  assert.equal((await talk(port)).replace("(ECONNRESET)", ""), "");
  assert.equal(proxy.listenerStat("downstream_cx_overflow"), 1);
  clients[0].close();
  await until(() => proxy.gauge("listener.test.downstream_cx_active") === 1);
  const next = new Client(port, "c");
  await until(() => next.text === "c");
  next.close();
  clients[1].close();
});

test("all listeners together have a limit, but for those that ignore it", async (t) => {
  const proxy = listeners(t);
  for (const [limit, runtime] of [
    [2, {}],
    [undefined, { "overload.global_downstream_max_connections": 2 }],
  ] as const) {
    proxy.setRuntime(runtime);
    proxy.limitAll(limit);
    const before = proxy.listenerStat("downstream_global_cx_overflow");
    const ports: number[] = [];
    for (const ignore_global_conn_limit of [false, false, true])
      ports.push((await proxy.start({ ignore_global_conn_limit, filter_chains: [{ filters: [echo] }] })).port);
    const clients = ports.slice(0, 2).map((port) => new Client(port, "x"));
    await until(() => clients.every((client) => client.text === "x"));
    for (const port of ports.slice(0, 2)) assert.equal((await talk(port)).replace("(ECONNRESET)", ""), "");
    assert.equal(proxy.listenerStat("downstream_global_cx_overflow"), before + 2);
    const free = new Client(ports[2], "x");
    await until(() => free.text === "x");
    for (const client of [...clients, free]) client.close();
    await until(() => proxy.gauge("listener.test.downstream_cx_active") === 0);
    const again = new Client(ports[0], "y");
    await until(() => again.text === "y");
    again.close();
    await until(() => proxy.gauge("listener.test.downstream_cx_active") === 0);
  }
});

test("an update serves new connections; those that are open stay with what they had", async (t) => {
  const proxy = listeners(t);
  const before = { filter_chains: [{ filters: [echo] }] };
  const { port, listener } = await proxy.start(before);
  const old = new Client(port, "1");
  await until(() => old.text === "1");
  // Traffic goes on while it changes to and fro: nobody is refused, everybody gets one of the two.
  let served = 0;
  for (let round = 0; round < 20; round++) {
    const [a, b] = [talk(port, ""), new Client(port, "x")];
    listener.update(await proxy.compile(round % 2 === 0 ? { filter_chains: [{ filters: [says(`new ${round}`)] }] } : before));
    const after = new Client(port, "y");
    b.socket.end();
    after.socket.end();
    await Promise.all([b.ended, after.ended]);
    if (round % 2 === 0) assert.equal(after.text, `new ${round}`);
    else assert.equal(after.text, "y");
    // Of a connection from before the update either chain is right.
    assert.ok(b.text === "x" || b.text.startsWith("new"), b.text);
    served++;
    old.send("2");
    await until(() => old.text.length === served + 1);
    void a.catch(() => {});
  }
  old.close();
});

test("an update leaves connections of unchanged chains alone and closes the others in the end", async (t) => {
  const proxy = listeners(t);
  proxy.drainTimeMs = 40;
  const byPort = (source_ports: number[], filters: object[], name: string): object => ({ name, filter_chain_match: { source_ports }, filters });
  // Ports of the system for the two clients: the chains are told apart by them.
  const [a, b] = [await freePort(), await freePort()];
  const chains = [byPort([a], [echo], "kept"), byPort([b], [echo], "changed")];
  const { port, listener } = await proxy.start({ filter_chains: chains });
  const kept = new Client({ port, localPort: a }, "a");
  const changed = new Client({ port, localPort: b }, "b");
  await until(() => kept.text === "a" && changed.text === "b");
  listener.update(await proxy.compile({ filter_chains: [chains[0], byPort([b], [says("new")], "changed")] }));
  changed.send("c");
  await until(() => changed.text === "bc");
  assert.ok(["eof", "ECONNRESET"].includes(await changed.ended));
  kept.send("d");
  await until(() => kept.text === "ad");
  // Another field of the listener itself concerns all of its connections.
  listener.update(await proxy.compile({ traffic_direction: "INBOUND", filter_chains: [chains[0]] }));
  assert.ok(["eof", "ECONNRESET"].includes(await kept.ended));
  kept.close();
  changed.close();
});

test("after stopAccepting the open connections go on, and nobody new is let in", async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  const client = new Client(port, "1");
  await until(() => client.text === "1");
  listener.stopAccepting();
  assert.equal(await new Client(port).ended, "ECONNREFUSED");
  client.send("2");
  await until(() => client.text === "12");
  listener.close();
  const how = await client.ended;
  assert.ok(how === "eof" || how === "ECONNRESET", how);
});

test("a taken address is told with its code", async (t) => {
  const proxy = listeners(t);
  const { port } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  await assert.rejects(
    proxy.start({ filter_chains: [{ filters: [echo] }], address: { socket_address: { address: "127.0.0.1", port_value: port } } }),
    (error: NodeJS.ErrnoException & { address?: string }) => error.code === "EADDRINUSE" && error.address === `127.0.0.1:${port}`,
  );
});

test("a path and an address can be one listener", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "listener-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "socket");
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({
    additional_addresses: [{ address: { pipe: { path, mode: 0o600 } } }],
    filter_chains: [{ filters: [says("hi")] }],
  });
  assert.equal(await talk(port), "hi");
  assert.equal(await talk({ path }), "hi");
  assert.equal(statSync(path).mode & 0o777, 0o600);
  listener.close();
  assert.equal(existsSync(path), false);
});

test("what cannot be is said in Envoy's words", async (t) => {
  const proxy = listeners(t);
  const compile = async (json: object): Promise<string[]> => {
    proxy.findings.length = 0;
    await proxy.compile(json);
    return [...proxy.findings];
  };
  const chain = { filters: [echo] };
  assert.match((await compile({}))[0], /no filter chains specified/);
  assert.match((await compile({ filter_chains: [chain, { ...chain, name: "twin" }] }))[0], /'twin' has the same matching rules defined as ''/);
  const overlapping = [
    { filter_chain_match: { server_names: ["a.test", "b.test"] }, filters: [echo] },
    { filter_chain_match: { server_names: ["b.test"] }, filters: [echo] },
  ];
  assert.match((await compile({ filter_chains: overlapping }))[0], /overlapping matching rules/);
  assert.match(
    (await compile({ filter_chains: [{ filter_chain_match: { server_names: ["a.*.test"] }, filters: [echo] }] }))[0],
    /partial wildcards are not supported in "server_names"/,
  );
  assert.match((await compile({ filter_chains: [{ filters: [echo, echo] }] }))[0], /terminal filter named 'x' must be the last filter/);
  assert.match(
    (await compile({ filter_chains: [{ filters: [typed("network.sni_cluster.v3.SniCluster")] }] }))[0],
    /non-terminal filter named 'x' must not be the last filter/,
  );
  assert.match(
    (await compile({ filter_chains: [chain], address: { socket_address: { address: "example.com", port_value: 1 } } }))[0],
    /malformed IP address: example.com/,
  );
  assert.match((await compile({ filter_chains: [chain], use_original_dst: true }))[0], /use_original_dst is not supported/);
  assert.deepEqual(await compile({ filter_chains: [chain], transparent: false }), []);
});

const native = nativeSockets() === undefined ? "koffi is not installed" : false;

test("exact_balance gives each worker as many connections as the others", { skip: native }, async (t) => {
  const message = TestListeners.message({ filter_chains: [{ filters: [echo] }], connection_balance_config: { exact_balance: {} }, enable_reuse_port: false });
  const workers = [0, 1, 2].map((index) => new TestListeners(index, 3));
  t.after(() => {
    for (const worker of workers) worker.close();
  });
  const started: Awaited<ReturnType<TestListeners["start"]>>[] = [];
  for (const worker of workers) started.push(await worker.start(message));
  const open = (): number[] => started.map(({ listener }) => listener.connectionCount);
  const clients = Array.from({ length: 9 }, (_, i) => new Client(started[0].port, `hello ${i}`));
  await until(() => clients.every((client, i) => client.text === `hello ${i}`));
  assert.deepEqual(open(), [3, 3, 3]);
  // A worker that stops gets no more; what it has goes on.
  started[2].listener.stopAccepting();
  const more = Array.from({ length: 4 }, () => new Client(started[0].port, "x"));
  await until(() => more.every((client) => client.text === "x"));
  assert.deepEqual(open(), [5, 5, 3]);
  for (const client of [...clients, ...more]) client.close();
  await until(() => open().every((count) => count === 0));
  const last = [new Client(started[0].port, "a"), new Client(started[0].port, "b")];
  await until(() => last.every((client) => client.text !== ""));
  assert.deepEqual(open(), [1, 1, 0]);
  for (const client of last) client.close();
});

test("who waits to be let in does not wait for a turn of the event loop each", { skip: native }, async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  const clients = Array.from({ length: 300 }, () => new Client(port, ""));
  let turns = 0;
  for (; listener.connectionCount < 300 && turns < 100; turns++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(listener.connectionCount, 300);
  assert.ok(turns < 20, `${turns} turns`);
  for (const client of clients) client.close();
});

test("max_connections_to_accept_per_socket_event lets so many in at a time", { skip: native }, async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }], max_connections_to_accept_per_socket_event: 2 });
  const clients = Array.from({ length: 40 }, () => new Client(port, ""));
  let most = 0;
  while (listener.connectionCount < 40) {
    const before = listener.connectionCount;
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, listener.connectionCount - before);
  }
  assert.equal(most, 2);
  for (const client of clients) client.close();
});

test("who had connected when accepting stops is served", { skip: native }, async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  const clients = Array.from({ length: 20 }, () => new Client(port, "x"));
  // The kernel has the connections as soon as connect(2) was called, for which Node needs no turn of the event loop.
  await new Promise((resolve) => process.nextTick(resolve));
  listener.stopAccepting();
  assert.equal(listener.connectionCount, 20);
  await until(() => clients.every((client) => client.text === "x"));
  for (const client of clients) client.close();
});

test("options that Node cannot set are set: freebind, TCP Fast Open, any socket option", { skip: native }, async (t) => {
  const proxy = listeners(t);
  // An address of documentation, which this machine does not have.
  const { address } = await proxy.start({
    address: { socket_address: { address: "192.0.2.1", port_value: 0 } },
    freebind: true,
    filter_chains: [{ filters: [echo] }],
  });
  assert.match(address, /^192\.0\.2\.1:\d+$/);
  const { port } = await proxy.start({
    filter_chains: [{ filters: [echo] }],
    tcp_fast_open_queue_length: 10,
    tcp_backlog_size: 16,
    tcp_keepalive: { keepalive_time: 60, keepalive_interval: 5, keepalive_probes: 3 },
    // SO_RCVBUF, and TCP_DEFER_ACCEPT while it listens
    socket_options: [
      { level: 1, name: 8, int_value: 20000 },
      { level: 6, name: 9, int_value: 1, state: "STATE_LISTENING" },
    ],
  });
  const client = new Client(port, "x");
  await until(() => client.text === "x");
  client.close();
  await assert.rejects(
    proxy.start({ filter_chains: [{ filters: [echo] }], socket_options: [{ level: 1, name: 9999, int_value: 1 }] }),
    (error: NodeJS.ErrnoException) => error.code === "ENOPROTOOPT",
  );
});

test("many connections that come and go leave nothing behind", async (t) => {
  const proxy = listeners(t);
  const { port, listener } = await proxy.start({ listener_filters: [httpInspector], filter_chains: [{ filters: [echo] }] });
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const socket = connect({ port, host: "127.0.0.1" });
      socket.on("error", () => {});
      socket.resume();
      await new Promise((resolve) => socket.once("connect", resolve));
      if (i % 3 === 0) socket.resetAndDestroy();
      else if (i % 3 === 1) socket.end("GET / HTTP/1.1\r\n");
      else socket.end();
      await new Promise((resolve) => socket.once("close", resolve));
    }),
  );
  await until(() => listener.connectionCount === 0 && proxy.gauge("listener.test.downstream_pre_cx_active") === 0);
  assert.equal(proxy.gauge("listener.test.downstream_cx_active"), 0);
  assert.equal(proxy.listenerStat("downstream_cx_total"), proxy.listenerStat("downstream_cx_destroy"));
  assert.equal(proxy.timers.armed, 0);
});
