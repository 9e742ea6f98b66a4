import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { Client, logged, TestListeners, talk, typed, until } from "../../../listener/testing.ts";
import { assignment, TestCluster } from "../../../upstream/testing.ts";

/** A listener with tcp_proxy as its filter, its clusters, and what they forward to. */
class Bed {
  readonly proxy = new TestListeners();
  readonly servers: Server[] = [];
  readonly sockets: Socket[] = [];
  readonly clusters: TestCluster[] = [];

  constructor(t: TestContext) {
    t.after(() => this.close());
  }

  /** A server of its own port. */
  async server(serve: (socket: Socket) => void): Promise<number> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.sockets.push(socket);
      socket.on("error", () => {});
      serve(socket);
    });
    this.servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }

  cluster(name: string, ports: readonly number[], more: object = {}): TestCluster {
    const cluster = new TestCluster({ type: "STATIC", connect_timeout: "1s", load_assignment: assignment(...ports), ...more });
    this.clusters.push(cluster);
    this.proxy.clusters.set(name, cluster.core);
    return cluster;
  }

  async start(config: object = {}, listener: object = {}): Promise<number> {
    const filter = typed("network.tcp_proxy.v3.TcpProxy", { stat_prefix: "t", cluster: "service", ...config });
    const { port } = await this.proxy.start({ filter_chains: [{ filters: [filter] }], ...listener });
    return port;
  }

  stat(name: string): number {
    return this.proxy.stat(`tcp.t.${name}`);
  }

  close(): void {
    this.proxy.close();
    for (const cluster of this.clusters) cluster.close();
    for (const socket of this.sockets) socket.destroy();
    for (const server of this.servers) server.close();
  }
}

const echo = (socket: Socket): void => void socket.pipe(socket);
const log = (format: string): object => ({ access_log: [logged(`${format}\n`)] });

test("bytes go both ways, are counted and logged", async (t) => {
  const bed = new Bed(t);
  const to = await bed.server(echo);
  const cluster = bed.cluster("service", [to]);
  const port = await bed.start(
    log("%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_WIRE_BYTES_SENT% %ACCESS_LOG_TYPE% %UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
  );
  const client = new Client(port, "hello");
  await until(() => client.text === "hello");
  assert.equal(bed.stat("downstream_cx_rx_bytes_total"), 5);
  assert.equal(bed.stat("downstream_cx_tx_bytes_total"), 5);
  assert.equal(cluster.stat("upstream_cx_tx_bytes_total"), 5);
  assert.equal(cluster.stat("upstream_rq_total"), 1);
  client.socket.end();
  assert.equal(await client.ended, "eof");
  await until(() => bed.proxy.lines.length === 1);
  assert.deepEqual(bed.proxy.lines, [`- 5 5 127.0.0.1:${to} 5 TcpConnectionEnd 1\n`]);
  await until(() => cluster.stats.gauge("cluster.service.upstream_cx_active").value === 0);
  assert.equal(bed.proxy.timers.armed, 0);
  assert.equal(cluster.timers.armed, 0);
});

test("either side may end its half first", async (t) => {
  const bed = new Bed(t);
  let got = "";
  bed.cluster("service", [
    await bed.server((socket) => {
      socket.end("banner");
      socket.on("data", (data) => {
        got += String(data);
      });
    }),
  ]);
  const port = await bed.start();
  const client = new Client(port);
  assert.equal(await client.ended, "eof");
  assert.equal(client.text, "banner");
  client.send("after the end");
  client.socket.end();
  await until(() => got === "after the end");
});

test("large transfers arrive whole, in both directions at once", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server(echo)], { per_connection_buffer_limit_bytes: 8192 });
  const port = await bed.start({}, { per_connection_buffer_limit_bytes: 8192 });
  const client = new Client(port);
  client.socket.removeAllListeners("data");
  let received = 0;
  let wrong = 0;
  client.socket.on("data", (data) => {
    for (const byte of data) if (byte !== received++ % 251) wrong++;
  });
  const total = 3_000_000;
  const all = Buffer.alloc(total);
  for (let i = 0; i < total; i++) all[i] = i % 251;
  client.socket.end(all);
  assert.equal(await client.ended, "eof");
  assert.deepEqual([received, wrong], [total, 0]);
});

test("a client that does not read holds its upstream", async (t) => {
  const bed = new Bed(t);
  let written = 0;
  const chunk = Buffer.alloc(65536);
  bed.cluster("service", [
    await bed.server((socket) => {
      const more = (): void => {
        while (written < 64 * 1024 * 1024 && socket.write(chunk)) written += chunk.length;
      };
      socket.on("drain", more);
      more();
    }),
  ]);
  const port = await bed.start({}, { per_connection_buffer_limit_bytes: 32768 });
  const client = new Client(port);
  client.socket.pause();
  await until(() => bed.clusters[0].stat("upstream_flow_control_paused_reading_total") > 0);
  assert.ok(written < 32 * 1024 * 1024, `${written} bytes were taken`);
  assert.ok(bed.proxy.gauge("tcp.t.downstream_cx_tx_bytes_buffered") > 0);
  client.close();
  await until(() => bed.proxy.gauge("tcp.t.downstream_cx_tx_bytes_buffered") === 0);
});

/** A port where nobody listens. */
async function closedPort(bed: Bed): Promise<number> {
  const port = await bed.server(() => {});
  const server = bed.servers.pop() as Server;
  server.close();
  await once(server, "close");
  return port;
}

test("why a connection could not be made is in flags and statistics", async (t) => {
  const bed = new Bed(t);
  const format = log("%RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_LOCAL_CLOSE_REASON%");
  const dead = bed.cluster("dead", [await closedPort(bed)]);
  const empty = bed.cluster("empty", []);
  const full = bed.cluster("full", [await bed.server(echo)], { circuit_breakers: { thresholds: [{ max_connections: 0 }] } });
  const outcome = async (config: object): Promise<string> => {
    bed.proxy.lines.length = 0;
    assert.equal(await talk(await bed.start({ ...format, ...config })), "");
    await until(() => bed.proxy.lines.length === 1);
    return bed.proxy.lines[0].trim();
  };
  assert.equal(await outcome({ cluster: "dead", max_connect_attempts: 3 }), "UF,URX 3 tcp_initializion_failure:0");
  assert.equal(dead.stat("upstream_cx_connect_fail"), 3);
  assert.equal(dead.stat("upstream_cx_connect_attempts_exceeded"), 1);
  assert.equal(await outcome({ cluster: "empty" }), "UH 0 tcp_initializion_failure:1");
  assert.equal(empty.stat("upstream_cx_none_healthy"), 1);
  assert.equal(await outcome({ cluster: "full" }), "UO 0 tcp_initializion_failure:2");
  assert.equal(full.stat("upstream_cx_overflow"), 1);
  assert.equal(await outcome({ cluster: "nowhere" }), "NC 0 tcp_initializion_failure:3");
  assert.equal(bed.stat("downstream_cx_no_route"), 1);
});

test("another attempt finds another host", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await closedPort(bed), await bed.server(echo)]);
  const port = await bed.start({ max_connect_attempts: 2, backoff_options: { base_interval: "0.001s" } });
  for (let i = 0; i < 4; i++) {
    const client = new Client(port, "x");
    await until(() => client.text === "x");
    client.close();
  }
});

test("time: idleness, the whole duration, and what logs say of them", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server(echo)]);
  const format = log("%RESPONSE_FLAGS% %DOWNSTREAM_LOCAL_CLOSE_REASON%");
  assert.equal(await talk(await bed.start({ ...format, idle_timeout: "0.03s" }), "a"), "a");
  assert.equal(bed.stat("idle_timeout"), 1);
  const busy = new Client(await bed.start({ ...format, max_downstream_connection_duration: "0.05s" }));
  const ticker = setInterval(() => busy.send("x"), 5);
  await busy.ended;
  clearInterval(ticker);
  assert.equal(bed.stat("max_downstream_connection_duration"), 1);
  await until(() => bed.proxy.lines.length === 2);
  assert.deepEqual(bed.proxy.lines, ["- tcp_session_idle_timeout\n", "DT max_connection_duration_reached\n"]);
});

test("logs of the start, of the connection, in between and of the end", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server(echo)]);
  const port = await bed.start({
    ...log("%ACCESS_LOG_TYPE%"),
    access_log_options: { flush_access_log_on_start: true, flush_access_log_on_connected: true, access_log_flush_interval: "0.02s" },
  });
  const client = new Client(port, "x");
  await until(() => bed.proxy.lines.length >= 4);
  client.socket.end();
  await until(() => bed.proxy.lines.at(-1) === "TcpConnectionEnd\n");
  assert.deepEqual(bed.proxy.lines.slice(0, 4), ["TcpConnectionStart\n", "TcpUpstreamConnected\n", "TcpPeriodic\n", "TcpPeriodic\n"]);
  await until(() => bed.proxy.timers.armed === 0);
});

test("a reset goes through: UR, and the client sees one, too", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server((socket) => socket.once("data", () => socket.resetAndDestroy()))]);
  const port = await bed.start(log("%RESPONSE_FLAGS% %DOWNSTREAM_DETECTED_CLOSE_TYPE% %UPSTREAM_DETECTED_CLOSE_TYPE%"));
  assert.equal(await new Client(port, "x").ended, "ECONNRESET");
  await until(() => bed.proxy.lines.length === 1);
  assert.deepEqual(bed.proxy.lines, ["UR LocalReset RemoteReset\n"]);
});

test("weights share connections out", async (t) => {
  const bed = new Bed(t);
  const seen = { a: 0, b: 0 };
  for (const name of ["a", "b"] as const) {
    const to = await bed.server((socket) => {
      seen[name]++;
      socket.end(name);
    });
    bed.cluster(name, [to]);
  }
  const port = await bed.start({
    cluster: undefined,
    weighted_clusters: {
      clusters: [
        { name: "a", weight: 1 },
        { name: "b", weight: 3 },
      ],
    },
  });
  for (let i = 0; i < 60; i++) {
    const client = new Client(port);
    await client.ended;
    client.close();
  }
  assert.equal(seen.a + seen.b, 60);
  assert.ok(seen.a >= 2 && seen.a <= 32, `about a quarter to a: ${seen.a}`);
});

test("the upstream may wait until the client has said something", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server(echo)]);
  const port = await bed.start({ upstream_connect_mode: "ON_DOWNSTREAM_DATA", max_early_data_bytes: 4 });
  const client = new Client(port);
  await once(client.socket, "connect");
  await until(() => bed.stat("downstream_cx_total") === 1);
  assert.equal(bed.clusters[0].stat("upstream_cx_total"), 0);
  client.send("hello");
  await until(() => client.text === "hello");
  assert.equal(bed.stat("early_data_received_count_total"), 1);
  client.close();
});

test("through an HTTP proxy: CONNECT, and attempts where it refuses", async (t) => {
  const bed = new Bed(t);
  const heads: string[] = [];
  let answer = "HTTP/1.1 200 OK\r\n\r\n";
  const to = await bed.server((socket) => {
    socket.once("data", (head) => {
      heads.push(String(head));
      socket.write(answer);
      socket.on("data", (data) => socket.write(String(data).toUpperCase()));
      socket.on("end", () => socket.end());
    });
  });
  bed.cluster("service", [to]);
  const config = {
    ...log("%RESPONSE_FLAGS%"),
    max_connect_attempts: 2,
    tunneling_config: { hostname: "db.internal:5432", headers_to_add: [{ header: { key: "x-from", value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } }] },
  };
  const client = new Client(await bed.start(config), "query");
  await until(() => client.text === "QUERY");
  assert.equal(heads[0], "CONNECT db.internal:5432 HTTP/1.1\r\nhost: db.internal:5432\r\nx-from: 127.0.0.1\r\n\r\n");
  client.close();
  answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
  assert.equal(await talk(await bed.start(config)), "");
  assert.equal(heads.length, 3);
  await until(() => bed.proxy.lines.some((line) => line === "UF,URX\n"));
});

test("a client that leaves while its upstream is being connected to leaves nothing behind", async (t) => {
  const bed = new Bed(t);
  bed.cluster("service", [await bed.server(echo)]);
  const port = await bed.start();
  for (let i = 0; i < 30; i++) {
    const client = new Client(port, "x");
    client.socket.on("connect", () => client.socket.resetAndDestroy());
    await client.ended;
  }
  await until(() => bed.proxy.gauge("listener.test.downstream_cx_active") === 0 && bed.stat("downstream_cx_total") > 0);
  await until(() => bed.clusters[0].stats.gauge("cluster.service.upstream_cx_active").value === 0);
  assert.equal(bed.proxy.timers.armed + bed.clusters[0].timers.armed, 0);
});

test("settings that cannot be are refused", async (t) => {
  const bed = new Bed(t);
  const findings = async (config: object): Promise<string> => {
    bed.proxy.findings.length = 0;
    await bed.proxy.compile({ filter_chains: [{ filters: [typed("network.tcp_proxy.v3.TcpProxy", { stat_prefix: "t", cluster: "c", ...config })] }] });
    return bed.proxy.findings.join("\n");
  };
  assert.match(await findings({ tunneling_config: { hostname: "a:1", post_path: "/x" } }), /Can't set a post path when POST method isn't used/);
  assert.match(await findings({ tunneling_config: { hostname: "%NOSUCH%" } }), /NOSUCH/);
  assert.match(await findings({ upstream_connect_mode: "ON_DOWNSTREAM_DATA" }), /max_early_data_bytes must be set/);
  assert.equal(await findings({ hash_policy: [{ source_ip: {} }] }), "");
});
