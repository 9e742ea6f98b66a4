import assert from "node:assert/strict";
import { test } from "node:test";
import { fingerprint } from "../config/fingerprint.ts";
import { changesBetween, describeChanges } from "./changes.ts";

const nameOf = (x: { name: string }): string => x.name;

test("names what was added, changed and removed", () => {
  const changes = changesBetween(
    [
      { name: "a", v: 1 },
      { name: "b", v: 1 },
      { name: "c", v: 1 },
    ],
    [
      { name: "b", v: 2 },
      { name: "c", v: 1 },
      { name: "d", v: 1 },
    ],
    nameOf,
  );
  assert.deepEqual([changes.added.map(nameOf), changes.updated.map(nameOf), changes.removed.map(nameOf)], [["d"], ["b"], ["a"]]);
  assert.deepEqual(describeChanges("clusters", changes, nameOf), ["clusters: added d; changed b; removed a"]);
});

test("equal trees have equal fingerprints, 64-bit integers and bytes included", () => {
  assert.equal(fingerprint({ a: 5n, b: new Uint8Array([1]) }), fingerprint({ a: 5n, b: new Uint8Array([1]) }));
  assert.notEqual(fingerprint({ a: 5n }), fingerprint({ a: 6n }));
  assert.notEqual(fingerprint({ a: 5n }), fingerprint({ a: 5 }));
  assert.deepEqual(describeChanges("x", changesBetween([], [], nameOf), nameOf), []);
});

test("a path counts with what is in its file", () => {
  const listener = { name: "a", certificate: { filename: "/cert.pem" } };
  const before = new Map([["/cert.pem", Buffer.from("old")]]);
  const after = new Map([["/cert.pem", Buffer.from("new")]]);
  assert.notEqual(fingerprint(listener, before), fingerprint(listener, after));
  assert.equal(fingerprint(listener, before), fingerprint(listener, new Map([["/cert.pem", Buffer.from("old")]])));
});
