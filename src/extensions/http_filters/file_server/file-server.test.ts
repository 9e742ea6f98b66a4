import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import type { HttpFilter } from "../../../http/filter.ts";
import { managerHarness } from "../../../http/manager/testing.ts";
import { message, testContext } from "../../../testing/compile-context.ts";
import fileServer from "./config.ts";
import { applyMapping, contentTypeKey, decodePath, findMapping, sortMappings } from "./path-mapping.ts";
import { parseRange, resolveRange } from "./range.ts";

const folder = mkdtempSync(join(tmpdir(), "outrider-files-"));
after(() => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, "f.txt"), "0123456789");
writeFileSync(join(folder, "empty.TXT"), "");
mkdirSync(join(folder, "site"));
writeFileSync(join(folder, "site", "index.html"), "<p>");
mkdirSync(join(folder, "bare"));
symlinkSync(join(folder, "loop"), join(folder, "loop"));
utimesSync(join(folder, "f.txt"), 1_700_000_000, 1_700_000_000);

const settings = message("envoy.extensions.filters.http.file_server.v3.FileServerConfig", {
  manager_config: { thread_pool: { thread_count: 1 } },
  path_mappings: [{ request_path_prefix: "/s/", file_path_prefix: folder }],
  content_types: { txt: "text/plain", html: "text/html" },
  default_content_type: "application/octet-stream",
  directory_behaviors: [{ default_file: "missing.html" }, { default_file: "index.html" }],
});
const compiled = fileServer.httpFilter.compile(settings, testContext());

/** The last filter of the chain: says what reached it. */
class Behind implements HttpFilter {
  readonly seen: string[];
  constructor(seen: string[]) {
    this.seen = seen;
  }
  decodeHeaders(_headers: unknown, endStream: boolean): "stop" {
    this.seen.push(`headers ${endStream}`);
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    this.seen.push(`${data} ${endStream}`);
    return "stop_no_buffer";
  }
}

interface Answer {
  readonly head: string;
  readonly body: string;
  readonly details: string | undefined;
  readonly behind: readonly string[];
}

/** One request to a chain with the file server; the answer once the stream has ended, or what is there at once for a request that goes on. */
async function ask(request: string, body = ""): Promise<Answer> {
  const behind: string[] = [];
  const config = { route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] } };
  const { receive, connection, logged } = managerHarness([compiled, () => new Behind(behind)], config, { bufferLimit: 1 << 20 });
  receive(`${request}\r\n\r\n${body}`);
  while (logged.length === 0 && behind.length === 0) await new Promise(setImmediate);
  const end = connection.written.indexOf("\r\n\r\n");
  return { head: connection.written.slice(0, end), body: connection.written.slice(end + 4), details: logged[0]?.details, behind };
}

test("files are sent whole, by GET and HEAD, with their type and validators", async () => {
  const whole = await ask("GET /s/f.txt?x=/../ HTTP/1.1\r\nhost: x");
  assert.match(whole.head, /^HTTP\/1\.1 200 [\s\S]*accept-ranges: bytes\r\ncontent-length: 10\r\ncontent-type: text\/plain\r\netag: "/);
  assert.match(whole.head, /last-modified: Tue, 14 Nov 2023 22:13:20 GMT/);
  assert.equal(whole.body, "0123456789");
  const head = await ask("HEAD /s/f%2etxt HTTP/1.1\r\nhost: x");
  assert.match(head.head, /content-length: 10/);
  assert.equal(head.body, "");
  assert.match((await ask("GET /s/empty.TXT HTTP/1.1\r\nhost: x")).head, /content-length: 0\r\ncontent-type: text\/plain/);
  assert.equal((await ask("GET /s/site HTTP/1.1\r\nhost: x")).body, "<p>");
});

test("requests of other paths go on with all of their body", async () => {
  assert.deepEqual((await ask("POST /other HTTP/1.1\r\nhost: x\r\ncontent-length: 5", "hello")).behind, ["headers false", "hello true"]);
  assert.deepEqual((await ask("GET /s HTTP/1.1\r\nhost: x")).behind, ["headers true"]);
});

test("what cannot be served is answered as by Envoy", async () => {
  for (const [request, status, details] of [
    ["GET /s/none", 404, "file_server_stat_error"],
    ["GET /s/f.txt/x", 400, "file_server_stat_error"],
    ["GET /s/loop", 400, "file_server_stat_error"],
    ["GET /s/../f.txt", 400, "file_server_rejected_non_normalized_path"],
    ["GET /s/%2e%2e/f.txt", 400, "file_server_rejected_non_normalized_path"],
    ["GET /s//f.txt", 400, "file_server_rejected_non_normalized_path"],
    ["GET /s/f.txt%00.html", 400, "file_server_rejected_non_normalized_path"],
    ["DELETE /s/f.txt", 405, "file_server_rejected_method"],
    ["GET /s/bare", 403, "file_server_no_valid_directory_behavior"],
  ] as const) {
    const answer = await ask(`${request} HTTP/1.1\r\nhost: x`);
    assert.equal(answer.head.split(" ")[1], String(status), request);
    assert.equal(answer.details, details, request);
  }
  const withBody = await ask("GET /s/f.txt HTTP/1.1\r\nhost: x\r\ncontent-length: 1", "x");
  assert.match(withBody.head, /^HTTP\/1\.1 400 /);
  assert.equal(withBody.details, "file_server_rejected_not_end_stream");
});

test("conditions on validators that were given out are honoured", async () => {
  const etag = /etag: ("[^"]+")/.exec((await ask("GET /s/f.txt HTTP/1.1\r\nhost: x")).head)?.[1];
  assert.match((await ask(`GET /s/f.txt HTTP/1.1\r\nhost: x\r\nif-none-match: "a", W/${etag}`)).head, /^HTTP\/1\.1 304 /);
  assert.match((await ask("GET /s/f.txt HTTP/1.1\r\nhost: x\r\nif-modified-since: Tue, 14 Nov 2023 22:13:20 GMT")).head, /^HTTP\/1\.1 304 /);
  // If-None-Match counts alone.
  assert.match(
    (await ask('GET /s/f.txt HTTP/1.1\r\nhost: x\r\nif-none-match: "a"\r\nif-modified-since: Tue, 14 Nov 2023 22:13:20 GMT')).head,
    /^HTTP\/1\.1 200 /,
  );
  assert.equal((await ask(`GET /s/f.txt HTTP/1.1\r\nhost: x\r\nrange: bytes=1-2\r\nif-range: ${etag}`)).body, "12");
  assert.equal((await ask('GET /s/f.txt HTTP/1.1\r\nhost: x\r\nrange: bytes=1-2\r\nif-range: "old"')).body, "0123456789");
});

test("ranges are read as Envoy reads them", async () => {
  for (const [range, status, body] of [
    ["bytes=2-5", 206, "2345"],
    ["bytes=9-", 206, "9"],
    ["bytes=0-9", 206, "0123456789"],
    ["bytes=0-10", 416, ""],
    ["bytes=11-", 416, ""],
    ["bytes=5-3", 416, ""],
    ["bytes=-3", 200, "0123456789"],
    ["bytes=1-2,4-5", 200, "0123456789"],
    ["bytes=x-", 200, "0123456789"],
    ["bytes=0-18446744073709551615", 200, "0123456789"],
    ["bytes=1-18446744073709551615", 206, "123456789"],
  ] as const) {
    const answer = await ask(`GET /s/f.txt HTTP/1.1\r\nhost: x\r\nrange: ${range}`);
    assert.equal(answer.head.split(" ")[1], String(status), range);
    if (status !== 416) assert.equal(answer.body, body, range);
  }
  assert.match((await ask("GET /s/f.txt HTTP/1.1\r\nhost: x\r\nrange: bytes=2-5")).head, /content-range: bytes 2-5\/10/);
});

test("no range leads out of the file", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^bytes=[0-9]{0,21}-[0-9]{0,21}$/), fc.nat(1000), (field, size) => {
      const found = resolveRange(parseRange([field]), size);
      if (found !== undefined) assert.ok(0 <= found.start && found.start <= found.end && found.end <= size, JSON.stringify(found));
    }),
  );
});

test("no path leads out of the folder", () => {
  const mappings = sortMappings([
    { requestPathPrefix: "/s/", filePathPrefix: "/srv/www" },
    { requestPathPrefix: "/t", filePathPrefix: "/srv/www/" },
  ]);
  const piece = fc.constantFrom("/", ".", "..", "%2e", "%2F", "s", "t", "\\", "%00", "%252e", ";", "?", "a");
  fc.assert(
    fc.property(fc.constantFrom("/s/", "/t", "/t/"), fc.array(piece, { maxLength: 12 }), (prefix, pieces) => {
      const path = decodePath(prefix + pieces.join(""));
      const mapping = findMapping(mappings, path);
      assert.ok(mapping !== undefined);
      const file = applyMapping(path, mapping);
      if (file === undefined) return;
      assert.ok(join(file, "x").startsWith("/srv/www/"), file);
      assert.doesNotMatch(file, /\0/);
    }),
    { numRuns: 2000 },
  );
});

test("a content type is looked up by what is behind the last dot", () => {
  for (const [file, key] of [
    ["/a/b.TXT", "txt"],
    ["/a/x.tar.gz", "gz"],
    ["/a.b/Makefile", "makefile"],
    ["/a/.profile", ".profile"],
    ["/a/b.", ""],
  ] as const)
    assert.equal(contentTypeKey(file), key);
});
