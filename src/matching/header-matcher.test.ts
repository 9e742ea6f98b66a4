import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { message, testContext } from "../testing/compile-context.ts";
import { compileHeaderMatcher } from "./header-matcher.ts";

function matches(matcher: object, ...fields: readonly string[]): boolean {
  const context = testContext();
  const compiled = compileHeaderMatcher(message("envoy.config.route.v3.HeaderMatcher", { name: "x", ...matcher }), context);
  assert.deepEqual([...context.findings], []);
  return compiled.matches(new RequestHeaders("GET", "/", "a.test", "http", [...fields]));
}

test("a repeated field is matched value by value, as with Envoy", () => {
  for (const exact of ["1", "2"]) assert.ok(matches({ string_match: { exact } }, "x", "1", "x", "2"), exact);
  for (const exact of ["1,2", "1, 2", "1; 2", "3", ""]) assert.ok(!matches({ string_match: { exact } }, "x", "1", "x", "2"), exact);
  assert.ok(matches({ string_match: { exact: "" } }, "x", "", "x", "1"));
  assert.ok(!matches({ string_match: { exact: "1" }, invert_match: true }, "x", "1", "x", "2"));
});

test("an empty exact_match, the deprecated one, takes any value but none; inverted it takes nothing, none included", () => {
  assert.ok(matches({ exact_match: "" }, "x", "anything"));
  assert.ok(matches({ exact_match: "" }, "x", ""));
  assert.ok(!matches({ exact_match: "" }));
  assert.ok(!matches({ exact_match: "", invert_match: true }, "x", "anything"));
  assert.ok(!matches({ exact_match: "", invert_match: true }));
});

test("present, absent, ranges, missing treated as empty", () => {
  assert.ok(matches({ present_match: true }, "x", ""));
  assert.ok(matches({ present_match: false }));
  assert.ok(matches({ present_match: true, invert_match: true }));
  assert.ok(matches({ range_match: { start: -10, end: 0 } }, "x", "-1"));
  assert.ok(!matches({ range_match: { start: -10, end: 0 } }, "x", "0"));
  assert.ok(!matches({ range_match: { start: -10, end: 0 } }, "x", "-1a"));
  assert.ok(matches({ string_match: { exact: "" }, treat_missing_header_as_empty: true }));
  assert.ok(!matches({ string_match: { exact: "" } }));
});
