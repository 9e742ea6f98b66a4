import assert from "node:assert/strict";
import { test } from "node:test";
import { matches } from "./pattern.ts";

function match(pattern: string, line: string): boolean {
  // Embedded in more bytes: what is not part of the line must not count.
  const bytes = Buffer.from(`<<${line}>>`, "latin1");
  return matches(Buffer.from(pattern, "latin1"), bytes, 2, bytes.length - 2);
}

test("all bytes but the star stand for themselves, and the whole line counts", () => {
  assert.ok(match("a.c", "a.c"));
  assert.ok(!match("a.c", "abc"));
  assert.ok(!match("a", "ab"));
  assert.ok(!match("ab", "a"));
  assert.ok(match("", ""));
  assert.ok(!match("", "x"));
});

test("a star skips to the first occurrence of the next byte and never goes back", () => {
  assert.ok(match("*ab", "xab"));
  assert.ok(!match("*ab", "aab"));
  assert.ok(!match("*ab", "abab"));
  assert.ok(match("named[*]: *", "named[135]: other"));
  assert.ok(!match("*>", "x"), "the byte is looked for in the line only");
});

test("a star at the end takes anything; after a star it is a byte to look for", () => {
  assert.ok(match("*", ""));
  assert.ok(match("a=*", "a="));
  assert.ok(match("**", "a*b"));
  assert.ok(!match("**", "ab"));
});
