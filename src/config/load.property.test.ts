/** The loader against @bufbuild/protobuf as oracle: whatever JSON that accepts, ours reads to the same message; binary likewise; defaults too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  create,
  createFileRegistry,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  fromJson,
  toJson as oracleToJson,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { type DescriptorProto, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { encodeMessage } from "./binary-encode.ts";
import { toJson } from "./json.ts";
import { loadMessage } from "./load.ts";
import { localName } from "./schema/descriptor.ts";
import { envoySchema } from "./schema/registry.ts";
import { createMessage } from "./shape.ts";

const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL("schema/envoy-1.40.descriptors.binpb", import.meta.url)));
// protoc fills json_name in; the descriptors inside a C++ program lack it.
function nameJson(message: DescriptorProto): void {
  for (const field of message.field) field.jsonName = localName(field.name);
  for (const nested of message.nestedType) nameJson(nested);
}
for (const file of set.file) for (const message of file.messageType) nameJson(message);
const registry: FileRegistry = createFileRegistry(set);
const messages: DescMessage[] = [];
for (const type of registry) if (type.kind === "message" && /^(envoy|xds)\./.test(type.typeName) && type.file.edition !== 998) messages.push(type);

/** Large messages come more often. */
const weighted = messages.flatMap((m) => new Array<DescMessage>(m.fields.length + 1).fill(m));

type Random = { integer(max: number): number };

/** Random proto JSON of a message: half of its fields at the top, few below. */
function randomMessage(desc: DescMessage, random: Random, depth: number): Record<string, unknown> {
  const json: Record<string, unknown> = {};
  const oneofs = new Set<unknown>();
  for (const field of desc.fields) {
    if (random.integer(depth === 0 ? 2 : 4) !== 0) continue;
    if (field.oneof !== undefined) {
      if (oneofs.has(field.oneof)) continue;
      oneofs.add(field.oneof);
    }
    const value = randomField(field, random, depth);
    if (value !== undefined) json[random.integer(2) === 0 ? field.name : field.jsonName] = value;
  }
  return json;
}

function randomField(field: DescField, random: Random, depth: number): unknown {
  switch (field.fieldKind) {
    case "list": {
      const items = Array.from({ length: random.integer(3) }, () => randomSingle(field, random, depth)).filter((v) => v !== undefined);
      return items.length === 0 ? undefined : items;
    }
    case "map": {
      const map: Record<string, unknown> = {};
      for (let i = random.integer(3); i > 0; i--) {
        const key = field.mapKey === ScalarType.STRING ? `k${random.integer(9)}` : field.mapKey === ScalarType.BOOL ? "true" : String(random.integer(1000));
        const value = randomSingle(field, random, depth);
        if (value !== undefined) map[key] = value;
      }
      return map;
    }
    default:
      return randomSingle(field, random, depth);
  }
}

function pick<T>(random: Random, values: readonly T[]): T {
  return values[random.integer(values.length)];
}

function randomSingle(field: DescField, random: Random, depth: number): unknown {
  if (field.message !== undefined) return randomKnown(field.message, random, depth + 1);
  if (field.enum !== undefined) {
    const value = pick(random, field.enum.values);
    return field.enum.typeName === "google.protobuf.NullValue" ? undefined : random.integer(3) === 0 ? value.number : value.name;
  }
  return randomScalar(field.scalar as ScalarType, random);
}

function randomScalar(type: ScalarType, random: Random): unknown {
  switch (type) {
    case ScalarType.BOOL:
      return random.integer(2) === 0;
    case ScalarType.STRING:
      return pick(random, ["", "a", "yes", "12", "é€😀", 'a\nb"c\\', "x".repeat(50), "null"]);
    case ScalarType.BYTES:
      return pick(random, ["", "AA==", "aGVsbG8=", "_-8", "/+8="]);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return pick(random, [0, 1, -1.5, 0.25, 1e10, "NaN", "Infinity", "-Infinity", "3.5"]);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return pick(random, [0, 1, 4294967295, "7", 1e3]);
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return pick(random, [0, -1, 2147483647, -2147483648, "-7"]);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return pick(random, [0, 5, "18446744073709551615", "9007199254740993"]);
    default:
      return pick(random, [0, -5, "9223372036854775807", "-9223372036854775808"]);
  }
}

const anyTypes = [
  "envoy.extensions.filters.http.buffer.v3.Buffer",
  "envoy.config.route.v3.RouteMatch",
  "envoy.extensions.access_loggers.file.v3.FileAccessLog",
  "google.protobuf.Struct",
  "google.protobuf.Duration",
  "google.protobuf.StringValue",
];

function randomJson(random: Random, depth: number): unknown {
  switch (random.integer(depth > 2 ? 4 : 6)) {
    case 0:
      return null;
    case 1:
      return random.integer(2) === 0;
    case 2:
      return pick(random, [0, 1.5, -3, 1e20]);
    case 3:
      return pick(random, ["", "x", "1"]);
    case 4:
      return Array.from({ length: random.integer(3) }, () => randomJson(random, depth + 1));
    default:
      return randomObject(random, depth + 1);
  }
}

function randomObject(random: Random, depth: number): Record<string, unknown> {
  return Object.fromEntries(Array.from({ length: random.integer(3) }, () => [pick(random, ["a", "b.c", "@type", ""]), randomJson(random, depth)]));
}

function randomKnown(desc: DescMessage, random: Random, depth: number): unknown {
  switch (desc.typeName) {
    case "google.protobuf.Any": {
      if (depth > 3) return undefined;
      const type = registry.getMessage(pick(random, anyTypes)) as DescMessage;
      const inner = randomKnown(type, random, depth + 1);
      const url = { "@type": `type.googleapis.com/${type.typeName}` };
      return type.typeName.startsWith("google.") ? { ...url, value: inner } : { ...url, ...(inner as object) };
    }
    case "google.protobuf.Duration":
      return pick(random, ["0s", "1s", "-1.5s", "0.000000001s", "315576000000s", "1.500s"]);
    case "google.protobuf.Timestamp":
      return pick(random, ["2026-01-31T12:00:00Z", "1970-01-01T00:00:00.5Z", "2000-02-29T23:59:59+01:30"]);
    case "google.protobuf.Struct":
      return randomObject(random, 0);
    case "google.protobuf.Value":
      return randomJson(random, 0);
    case "google.protobuf.ListValue":
      return [randomJson(random, 1)];
    case "google.protobuf.FieldMask":
      return pick(random, ["", "a", "fooBar,baz.quxQuux"]);
    case "google.protobuf.Empty":
      return {};
    default:
      if (/^google\.protobuf\.\w+Value$/.test(desc.typeName)) return randomScalar(desc.fields[0].scalar as ScalarType, random);
      return depth > 4 ? {} : randomMessage(desc, random, depth);
  }
}

/** A small generator from fast-check's integers, so that failures shrink and repeat. */
const seeded = fc.noBias(fc.nat()).map((seed): Random => {
  let state = seed;
  return {
    integer(max) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 4294967296) * max);
    },
  };
});

const shapeErrors = (findings: readonly { code: string; severity: string; text: string }[]): string[] =>
  findings.filter((f) => f.code.startsWith("OR1") && f.severity === "error").map((f) => f.text);

test("reads JSON and binary of every message as the oracle does", () => {
  fc.assert(
    fc.property(fc.noBias(fc.nat(weighted.length - 1)), seeded, (index, random) => {
      const desc = weighted[index];
      const json = randomMessage(desc, random, 0);
      const oracle = fromJson(desc, json as never, { registry });
      const expected = oracleToJson(desc, oracle, { registry });
      const text = JSON.stringify(json);

      const loaded = loadMessage({ kind: "text", name: "x.json", text, format: "json" }, desc.typeName);
      assert.deepEqual(shapeErrors(loaded.findings), [], text);
      assert.deepEqual(toJson(loaded.message as object, { protoNames: false, redact: false }), expected, text);

      const encoded = fromBinary(desc, encodeMessage(loaded.message as { $typeName: string }));
      assert.deepEqual(oracleToJson(desc, encoded, { registry }), expected, text);

      const bytes = toBinary(desc, oracle);
      const decoded = loadMessage({ kind: "bytes", name: "x.pb", bytes }, desc.typeName);
      assert.deepEqual(shapeErrors(decoded.findings), [], text);
      assert.deepEqual(toJson(decoded.message as object, { protoNames: false, redact: false }), expected, text);
    }),
    { numRuns: 1000 },
  );
});

test("an empty message of every type has the oracle's defaults under the oracle's names", () => {
  for (const desc of messages) {
    const ours = createMessage(envoySchema().message(desc.typeName)!);
    const oracle = create(desc) as unknown as Record<string, unknown>;
    for (const member of desc.members) assert.deepEqual(ours[member.localName], oracle[member.localName], `${desc.typeName}.${member.name}`);
  }
});

test("knows every message and enum of the set", () => {
  const schema = envoySchema();
  for (const type of registry) {
    if (type.kind === "message" && type.proto.options?.mapEntry !== true) {
      const ours = schema.message(type.typeName);
      assert.ok(ours, type.typeName);
      assert.deepEqual(
        ours.fields.map((f) => [f.name, f.localName, f.jsonName, f.number, f.oneof?.name, f.deprecated]),
        type.fields.map((f) => [f.name, f.localName, f.jsonName, f.number, f.oneof?.name, f.proto.options?.deprecated ?? false]),
      );
    } else if (type.kind === "enum") {
      assert.deepEqual(
        schema.enumeration(type.typeName)?.values.map((v) => [v.name, v.number]),
        type.values.map((v) => [v.name, v.number]),
        type.typeName,
      );
    }
  }
});
