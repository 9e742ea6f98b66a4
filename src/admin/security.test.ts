import assert from "node:assert/strict";
import { hostname } from "node:os";
import { test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { hostOf, refuseMutation } from "./security.ts";

function refused(authority: string, fields: Record<string, string> = {}): boolean {
  const headers = new RequestHeaders("POST", "/quitquitquit", authority, "http", Object.entries(fields).flat());
  return refuseMutation(headers, "10.1.2.3") !== undefined;
}

test("what is no browser passes, under any name", () => {
  for (const host of ["127.0.0.1:9901", "localhost:9901", "sidecar.internal:9901", "[::1]:9901", "", "pod-7"])
    assert.equal(refused(host, { "user-agent": "curl/8" }), false, host);
});

test("the interface's own pages pass", () => {
  assert.equal(refused("127.0.0.1:9901", { origin: "http://127.0.0.1:9901", "sec-fetch-site": "same-origin" }), false);
  assert.equal(refused("localhost:9901", { origin: "http://localhost:9901", referer: "http://localhost:9901/" }), false);
  assert.equal(refused("[::1]:9901", { origin: "http://[::1]:9901" }), false);
  assert.equal(refused("a.localhost", { origin: "http://a.localhost" }), false);
  assert.equal(refused(`${hostname()}:9901`, { origin: `http://${hostname()}:9901` }), false);
  assert.equal(refused("127.0.0.1:80", { origin: "http://127.0.0.1" }), false, "default port");
  assert.equal(refused("127.0.0.1:9901", { "sec-fetch-site": "none" }), false, "typed by the user");
});

test("pages of other sites are refused", () => {
  assert.equal(refused("127.0.0.1:9901", { origin: "http://evil.example" }), true);
  assert.equal(refused("127.0.0.1:9901", { origin: "http://127.0.0.1:8000" }), true, "another port is another origin");
  assert.equal(refused("127.0.0.1:9901", { origin: "null" }), true);
  assert.equal(refused("127.0.0.1:9901", { origin: "" }), true);
  assert.equal(refused("127.0.0.1:9901", { "sec-fetch-site": "cross-site" }), true);
  assert.equal(refused("127.0.0.1:9901", { "sec-fetch-site": "same-site" }), true);
  assert.equal(refused("127.0.0.1:9901", { referer: "http://evil.example/x" }), true);
});

test("names that a page has given this address are refused", () => {
  assert.equal(refused("evil.example:9901", { origin: "http://evil.example:9901" }), true);
  assert.equal(refused("evil.example:9901", { referer: "http://evil.example:9901/" }), true);
  assert.equal(refused("evil.example:9901", { "user-agent": "Mozilla/5.0" }), true);
  assert.equal(refused("localhost.evil.example:9901", { origin: "http://localhost.evil.example:9901" }), true);
  assert.equal(refused("127.0.0.1.evil.example", { origin: "http://127.0.0.1.evil.example" }), true);
});

test("hostOf", () => {
  assert.equal(hostOf("[::1]:80"), "::1");
  assert.equal(hostOf("[::1"), "[::1");
  assert.equal(hostOf("LOCALHOST."), "localhost");
  assert.equal(hostOf("a:1"), "a");
});

test("the refusal quotes nothing unprintable", () => {
  const headers = new RequestHeaders("POST", "/", "127.0.0.1", "http", ["origin", `http://e\x1b[31m${"x".repeat(1000)}`]);
  const why = refuseMutation(headers, undefined) ?? "";
  assert.match(why, /^refused: [\x20-\x7e]*\n$/);
  assert.ok(why.length < 400);
});
