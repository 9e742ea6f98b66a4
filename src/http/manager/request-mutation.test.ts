import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { normalizePath } from "./request-mutation.ts";
import { managerHarness } from "./testing.ts";

const settings = (config: object) => managerHarness([], config).settings;
const normalizing = settings({ normalize_path: true });
const normal = (path: string): string => {
  const { path: result, action } = normalizePath(path, normalizing);
  return action === "reject" ? "reject" : result;
};

test("paths take the normal form that Envoy gives them", () => {
  for (const [given, expected] of [
    ["/a/../b/./c/..", "/b/"],
    ["/a/%2e%2E/b", "/b"],
    ["/a\\..\\b", "/b"],
    ["/..", "/"],
    ["/%41%7e%2D%5f", "/A~-_"],
    ["/%2f%5C%3b%c3%25", "/%2f%5C%3b%c3%25"],
    ['/"<>`{}|^\x7f', "/%22%3C%3E%60%7B%7D%7C%5E%7F"],
    ["/[!$&'()*+,;=:@]", "/[!$&'()*+,;=:@]"],
    ["/%zz%", "/%zz%"],
    ["/a%00b", "reject"],
    ["a", "reject"],
    ['/x?y=/../%2e"', '/x?y=/../%2e"'],
  ] as const)
    assert.equal(normal(given), expected, given);
});

test("decoding makes no escape that was not there", () => {
  for (const [given, expected] of [
    ["/%2%41", "/%252A"],
    ["/%%41%42", "/%25AB"],
    ["/%%341", "/%2541"],
    ["/%4%31/", "/%2541/"],
    ["/a/%%32e/b", "/a/%252e/b"],
    ["/%%25%34%31", "/%%2541"],
    ["/%%2e%2e", "/%.."],
  ] as const)
    assert.equal(normal(given), expected, given);
});

test("dot segments do not hide behind parameters", () => {
  for (const [given, expected] of [
    ["/a/..;/b", "/b"],
    ["/a/..;x;y=z/b", "/b"],
    ["/a/..;", "/"],
    ["/a/.;x=../b", "/a/b"],
    ["/a/..;%2fb/c", "/c"],
    ["/a/..;\\c", "/"],
    ["/a/...;/;../b;c", "/a/...;/;../b;c"],
    ["/a/..%3b/b", "/a/..%3b/b"],
    // Envoy leaves these, and a server that drops parameters would climb.
    ["/a/%2e%2e;x/b", "/b"],
    ["/a\\..;/b", "/b"],
  ] as const)
    assert.equal(normal(given), expected, given);
});

test("a normal form is its own normal form, begins with a slash and has no dot segment", () => {
  const piece = fc.constantFrom("/", "/", ".", "..", "%2e", "%2E", "\\", ";", "%", "%2", "%41", "%25", "4", "1", "e", "x", '"', "|", "%2f", "%5c");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
      const once = normal(`/${pieces.join("")}`);
      assert.equal(normal(once), once);
      assert.match(once, /^\//);
      assert.doesNotMatch(once, /\/(\.|%2e){1,2}(;|\/|$)|\\/i);
    }),
    { numRuns: 2000 },
  );
});

test("slashes are merged and escaped ones treated as configured, before and after the normal form", () => {
  const merging = settings({ merge_slashes: true });
  assert.deepEqual(normalizePath("//a///b//?c//d", merging), { path: "/a/b/?c//d", action: "continue" });
  const forwarding = settings({ normalize_path: true, path_with_escaped_slashes_action: "UNESCAPE_AND_FORWARD" });
  assert.deepEqual(normalizePath("/a%2f..%5Cb?%2f", forwarding), { path: "/b?%2f", action: "continue" });
  const redirecting = settings({ path_with_escaped_slashes_action: "UNESCAPE_AND_REDIRECT" });
  assert.deepEqual(normalizePath("/a%2Fb", redirecting), { path: "/a/b", action: "redirect" });
  assert.deepEqual(normalizePath("/a?%2F", redirecting), { path: "/a?%2F", action: "continue" });
  const rejecting = settings({ path_with_escaped_slashes_action: "REJECT_REQUEST" });
  assert.equal(normalizePath("/a%5cb", rejecting).action, "reject");
});
