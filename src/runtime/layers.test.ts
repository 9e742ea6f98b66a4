import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { LayeredRuntime } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { valueIn } from "./disk-layer.ts";
import { RuntimeLayers, RuntimeRefusal } from "./layers.ts";
import { entryOfText, flatten, numberOf, shortNumber } from "./values.ts";

type Specifier = LayeredRuntime["layers"][number]["layerSpecifier"];

function layered(...layers: (readonly [name: string, specifier: Specifier])[]): LayeredRuntime {
  return {
    $typeName: "envoy.config.bootstrap.v3.LayeredRuntime",
    layers: layers.map(([name, layerSpecifier]) => ({ $typeName: "envoy.config.bootstrap.v3.RuntimeLayer", name, layerSpecifier })),
  };
}
const admin = ["admin", { case: "adminLayer", value: { $typeName: "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer" } }] as const;
const disk = (name: string, symlinkRoot: string, subdirectory = "", appendServiceCluster = false) =>
  [
    name,
    { case: "diskLayer", value: { $typeName: "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer", symlinkRoot, subdirectory, appendServiceCluster } },
  ] as const;

function folder(t: { after(end: () => void): void }): string {
  const made = mkdtempSync(join(tmpdir(), "runtime-"));
  t.after(() => rmSync(made, { recursive: true }));
  return made;
}
function put(root: string, path: string, text: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), text);
}

test("texts mean what they mean to Envoy, and are shown as they came", () => {
  const meanings = [
    ["100", 100],
    ["100.0", 100],
    [" 12 ", 12],
    ["1e2", 100],
    ["0x64", 100],
    ["+5", 5],
    ["-5", -5],
    ["0144", 100],
    ["true", true],
    ["Off", false],
    ['"100"', '"100"'],
    ["'true'", "'true'"],
    ["text", "text"],
    ["numerator: 5", { numerator: 5, denominator: 100 }],
    ['{"numerator": 7, "denominator": "MILLION"}', { numerator: 7, denominator: 1_000_000 }],
    ["{numerator: 7, denominator: FOO}", "{numerator: 7, denominator: FOO}"],
    ["[1,2]", "[1,2]"],
    ["", ""],
  ] as const;
  for (const [text, value] of meanings) assert.deepEqual(entryOfText(text), { raw: text, value }, text);
  assert.throws(() => entryOfText("[1"), /no YAML at character/);
});

test("keys of a static layer", () => {
  const invalid: string[] = [];
  const found = flatten(
    { a: { b: 1, c: { d: "x" } }, "e.f": true, frac: { numerator: 3 }, bad: { numerator: 3, z: 4 }, none: {}, list: [1], n: { deep: null }, long: 123456789 },
    (key) => invalid.push(key),
  );
  assert.deepEqual(invalid, ["list", "n.deep"]);
  assert.deepEqual(Object.fromEntries([...found].map(([key, entry]) => [key, entry.value])), {
    "a.b": 1,
    "a.c.d": "x",
    "e.f": true,
    frac: { numerator: 3, denominator: 100 },
    bad: '{"numerator":3,"z":4}',
    none: { numerator: 0, denominator: 100 },
    long: 123456789,
  });
  assert.equal(found.get("long")?.raw, "1.23457e+08");
});

test("numbers as C prints and reads them", () => {
  for (const [value, text] of [
    [0, "0"],
    [-0.5, "-0.5"],
    [123456, "123456"],
    [1234567, "1.23457e+06"],
    [0.0001, "0.0001"],
    [0.00001, "1e-05"],
    [999999.9, "1e+06"],
  ] as const)
    assert.equal(shortNumber(value), text);
  for (const text of ["", "x", "1_0", "0x", "1e", "--1"]) assert.equal(numberOf(text), undefined, text);
});

test("a file's value is what is left without comments", () => {
  assert.equal(valueIn("0\n# a comment\n"), "0");
  assert.equal(valueIn("line1\nline2\n"), "line1\nline2");
  assert.equal(valueIn("  lead \n\n"), "  lead");
  assert.equal(valueIn("# only\n"), "");
  assert.equal(valueIn("a#b"), "a#b");
});

test("fractions by runtime key", () => {
  const { snapshot } = new RuntimeLayers(
    layered([
      "s",
      { case: "staticLayer", value: { on: 100, many: 200, below: -5, yes: true, cut: "99.5", half: { numerator: 5000, denominator: "TEN_THOUSAND" } } },
    ]),
  );
  const never = { numerator: 0, denominator: 100 };
  const always = { numerator: 100, denominator: 100 };
  assert.equal(snapshot.featureEnabled("on", never, 99), true);
  assert.equal(snapshot.featureEnabled("many", never, 99), true);
  assert.equal(snapshot.featureEnabled("cut", never, 98), true);
  assert.equal(snapshot.featureEnabled("cut", never, 99), false);
  for (const key of ["below", "yes", "absent", ""]) {
    assert.equal(snapshot.featureEnabled(key, never, 0), false, key);
    assert.equal(snapshot.featureEnabled(key, always, 99), true, key);
  }
  assert.equal(snapshot.featureEnabled("half", never, 4999), true);
  assert.equal(snapshot.featureEnabled("half", never, 5000), false);
  assert.equal(snapshot.integer("cut", 1), 99);
  assert.equal(snapshot.integer("below", 1), 1);
  assert.equal(snapshot.number("below", 1), -5);
});

test("the admin layer takes all changes or none", () => {
  const runtime = new RuntimeLayers(layered(["s", { case: "staticLayer", value: { k: 1 } }], admin));
  runtime.modify(new Map([["k", "7"]]));
  assert.throws(
    () =>
      runtime.modify(
        new Map([
          ["k", "8"],
          ["x", "[1"],
        ]),
      ),
    /^Error: the value of 'x' is no YAML/,
  );
  assert.deepEqual(runtime.toJson().entries, { k: { final_value: "7", layer_values: ["1", "7"] } });
  assert.equal(runtime.adminOverrides, 1);
  runtime.modify(new Map([["k", ""]]));
  assert.deepEqual(runtime.toJson().entries, { k: { final_value: "1", layer_values: ["1", ""] } });
  assert.equal(runtime.loads.success, 3);
  assert.throws(() => new RuntimeLayers(layered()).modify(new Map([["a", "b"]])), RuntimeRefusal);
});

test("disk layers: the cluster's own over the common one, absent ones are left out, broken ones count", (t) => {
  const root = folder(t);
  put(root, "base/k", "common");
  put(root, "base/.hidden/x", "1\n");
  put(root, "over/shop/k", "shop");
  const runtime = new RuntimeLayers(layered(disk("base", root, "base"), disk("over", root, "over", true), disk("gone", root, "gone")), "shop");
  assert.deepEqual(runtime.toJson(), {
    layers: ["base", "over"],
    entries: { k: { final_value: "shop", layer_values: ["common", "shop"] }, ".hidden.x": { final_value: "1", layer_values: ["1", ""] } },
  });
  assert.deepEqual(runtime.loads, { success: 1, error: 0, overrideDirExists: 1, overrideDirNotExists: 0 });
  put(root, "over/shop/bad", "{");
  runtime.reload();
  assert.deepEqual(runtime.toJson().layers, ["base"]);
  assert.deepEqual(runtime.loads, { success: 1, error: 1, overrideDirExists: 1, overrideDirNotExists: 1 });
  put(root, "base/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/deep", "1");
  runtime.reload();
  assert.deepEqual(runtime.toJson().layers, []);
});

test("a link moved into place is read; one that is taken away is not", async (t) => {
  const root = folder(t);
  put(root, "v1/k", "1");
  put(root, "v2/k", "2");
  const link = join(root, "current");
  symlinkSync("v1", link);
  const runtime = new RuntimeLayers(layered(disk("disk", link)));
  let changed = (): void => {};
  t.after(runtime.watch(() => changed()));
  for (const [target, value] of [
    ["v2", 2],
    ["v1", 1],
  ] as const) {
    const seen = new Promise<void>((resolve) => {
      changed = resolve;
    });
    symlinkSync(target, `${link}.new`);
    renameSync(`${link}.new`, link);
    await seen;
    assert.equal(runtime.snapshot.integer("k", 0), value);
  }
});
