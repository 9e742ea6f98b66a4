import assert from "node:assert/strict";
import { test } from "node:test";
import { loadMessage } from "../config/load.ts";
import type { ScopedRoutes_ScopeKeyBuilder } from "../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { RequestHeaders } from "../http/header-map.ts";
import { testContext } from "../testing/compile-context.ts";
import { compileScopeKeyBuilder } from "./scope-key.ts";

const type = "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder";

function builder(...fragments: object[]) {
  const text = JSON.stringify({ fragments: fragments.map((header_value_extractor) => ({ header_value_extractor })) });
  const { message } = loadMessage({ kind: "text", name: "x", text, format: "json" }, type);
  const context = testContext();
  const key = compileScopeKeyBuilder(message as unknown as ScopedRoutes_ScopeKeyBuilder, context);
  return { findings: context.findings, ask: (...list: string[]) => key(new RequestHeaders("GET", "/", "a", "http", list)) };
}

test("a whole value, a part by its place, a part by its name", () => {
  assert.equal(builder({ name: "X-A" }).ask("x-a", "v,w"), "v,w");
  const second = builder({ name: "x-a", element_separator: ",", index: 1 });
  assert.equal(second.ask("x-a", "v,w"), "w");
  assert.equal(second.ask("x-a", "v"), undefined);
  const named = builder({ name: "x-a", element_separator: ";", element: { key: "k", separator: "=" } });
  assert.equal(named.ask("x-a", "j=1;k=2=3"), "2=3");
  assert.equal(named.ask("x-a", "k"), "");
  assert.equal(named.ask("x-a", "kk=1"), undefined);
});

test("every part has to be there, and parts do not run into each other", () => {
  const both = builder({ name: "x-a" }, { name: "x-b" });
  assert.equal(both.ask("x-a", "1"), undefined);
  assert.notEqual(both.ask("x-a", "1", "x-b", "23"), both.ask("x-a", "12", "x-b", "3"));
});

test("a place without a separator is a mistake", () => {
  assert.match(builder({ name: "x-a", index: 1 }).findings[0], /Index > 0 for empty string element separator/);
});
