import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setLogSink } from "../log/log.ts";
import { endpointByPath } from "./endpoints.ts";
import { fakeServer } from "./fake-server.ts";
import { QueryParams } from "./query.ts";
import type { AdminServer } from "./server.ts";

setLogSink({ write: () => {} }, 0);

async function ask(server: AdminServer, path: string, query = ""): Promise<{ status: number; body: string }> {
  const response = await endpointByPath(path)?.handle({ server, method: "POST", path, params: QueryParams.parse(query) });
  assert.ok(response);
  let body = "";
  if (typeof response.body === "string") body = response.body;
  else for await (const piece of response.body as Iterable<string>) body += piece;
  return { status: response.status, body };
}

function profiledServer(folder: string): AdminServer {
  const yaml = `admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}, profile_path: ${folder}/out.prof}`;
  return fakeServer("", {
    config: fakeServer("", {}, yaml).config,
    profileWorkers: async (kind) => [
      { thread: "worker_0", stop: async () => `{"of":"${kind}"}` },
      { thread: "worker_1", stop: async () => undefined },
    ],
  });
}

test("profiles of all threads are written for the owner alone", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "profiles-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const server = profiledServer(folder);
  assert.equal((await ask(server, "/cpuprofiler", "enable=y")).body, "OK\n");
  assert.deepEqual(await ask(server, "/cpuprofiler", "enable=y"), { status: 500, body: "failure to start the profiler" });
  assert.equal((await ask(server, "/cpuprofiler", "enable=n")).body, "OK\n");
  const main = JSON.parse(readFileSync(join(folder, "out.prof"), "utf8")) as { nodes: object[]; endTime: number };
  assert.ok(main.nodes.length > 0 && main.endTime > 0);
  assert.equal(readFileSync(join(folder, "out.prof.worker_0"), "utf8"), '{"of":"cpu"}');
  assert.equal(statSync(join(folder, "out.prof")).mode & 0o777, 0o600);
  assert.equal((await ask(server, "/cpuprofiler", "enable=n")).body, "OK\n", "ending what does not run is no error");
});

test("heap profiles, and what is alive so far", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "profiles-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const server = profiledServer(folder);
  assert.equal((await ask(server, "/heapprofiler", "enable=n")).status, 400);
  assert.equal((await ask(server, "/heapprofiler", "enable=y")).body, "Starting heap profiler\n");
  assert.equal((await ask(server, "/heapprofiler", "enable=y")).status, 400);
  assert.equal((await ask(server, "/allocprofiler", "enable=y")).status, 400, "V8 samples for one at a time");
  assert.equal((await ask(server, "/heapprofiler", "enable=n")).status, 200);
  assert.ok("head" in JSON.parse(readFileSync(join(folder, "out.prof"), "utf8")));
  assert.ok("head" in JSON.parse((await ask(server, "/heap_dump")).body));
  assert.equal((await ask(server, "/allocprofiler", "enable=y")).body, "OK\n");
  const profiles = JSON.parse((await ask(server, "/allocprofiler", "enable=n")).body) as Record<string, object>;
  assert.deepEqual(Object.keys(profiles), ["main", "worker_0"]);
  assert.equal((await ask(server, "/allocprofiler", "enable=n")).status, 400);
  assert.ok("head" in JSON.parse((await ask(server, "/heap_dump")).body));
  assert.equal((await ask(server, "/peak_heap_dump")).status, 501);
});

test("a folder that is not there is told before, not after", async () => {
  const server = profiledServer("/nonexistent/folder");
  assert.deepEqual(await ask(server, "/cpuprofiler", "enable=y"), { status: 500, body: "failure to start the profiler" });
  assert.deepEqual(await ask(server, "/heapprofiler", "enable=y"), { status: 500, body: "Fail to start the heap profiler\n" });
});

test("neither y nor n", async () => {
  for (const path of ["/cpuprofiler", "/heapprofiler", "/allocprofiler"])
    assert.deepEqual(await ask(fakeServer(), path, "enable=x"), { status: 400, body: "?enable=<y|n>\n" });
});
