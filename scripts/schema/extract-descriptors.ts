/**
 * Regenerates src/config/schema/envoy-<version>.descriptors.binpb from an Envoy binary.
 *
 * protobuf's C++ runtime embeds every file's serialized FileDescriptorProto in the program. They are found by their first field (the file's
 * name), read field by field to their end, and written in dependency order as one FileDescriptorSet, options (PGV rules, deprecation,
 * sensitivity) included.
 *
 * Run: bin/node scripts/schema/extract-descriptors.ts PATH/TO/envoy [OUT.binpb]    then: bin/node scripts/schema/generate-types.ts
 * With --check instead of OUT it compares with the set in the repository and fails on a difference.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { WireReader } from "../../src/config/schema/wire.ts";
import { withOwnMessages } from "./own-messages.ts";

const [binaryPath, out] = process.argv.slice(2);
if (binaryPath === undefined) {
  console.error("usage: extract-descriptors.ts PATH/TO/envoy [OUT.binpb | --check]");
  process.exit(100);
}
const current = new URL("../../src/config/schema/envoy-1.40.descriptors.binpb", import.meta.url);

const binary = readFileSync(binaryPath);
const namePattern = /^(envoy|xds|udpa|validate|google|opentelemetry|opencensus|cel|io)\/[\w./-]+\.proto$/;
const files = new Map<string, { readonly bytes: Uint8Array; readonly descriptor: FileDescriptorProto }>();

for (let at = binary.indexOf(".proto\x12"); at >= 0; at = binary.indexOf(".proto\x12", at + 1)) {
  // Before ".proto": 0x0a, the name's length, the name. The length byte must agree with where the name begins.
  const nameEnd = at + ".proto".length;
  for (let length = 8; length < 128; length++) {
    const start = nameEnd - length - 2;
    if (start < 0) break;
    if (binary[start] !== 0x0a || binary[start + 1] !== length) continue;
    const name = binary.toString("latin1", start + 2, nameEnd);
    if (!namePattern.test(name) || files.has(name)) break;
    const bytes = descriptorAt(start);
    if (bytes === undefined) break;
    try {
      const descriptor = fromBinary(FileDescriptorProtoSchema, bytes);
      if (descriptor.name === name) files.set(name, { bytes, descriptor });
    } catch {
      // Bytes that only look like a descriptor: another copy of the name may be the real one.
    }
    break;
  }
}

/** The bytes of a FileDescriptorProto that starts here: fields 1-9 and 12 are length-delimited, 10, 11 and 14 varints; syntax (12) is last. */
function descriptorAt(start: number): Uint8Array | undefined {
  const reader = new WireReader(binary, start, Math.min(binary.length, start + 4_000_000));
  let end = start;
  try {
    for (;;) {
      const tag = reader.uint32();
      const field = tag >>> 3;
      const type = tag & 7;
      if (type === 2 && ((field >= 1 && field <= 9) || field === 12)) reader.range();
      else if (type === 0 && (field === 10 || field === 11 || field === 14)) reader.uint32();
      else break;
      // A second name begins the next descriptor.
      if (field === 1 && end !== start) break;
      end = reader.pos;
      if (field === 12) break;
    }
  } catch {
    // What follows the last field is no field: the descriptor ended before.
  }
  return end === start ? undefined : new Uint8Array(binary.subarray(start, end));
}

const ordered: Uint8Array[] = [];
const done = new Set<string>();
const missing = new Set<string>();
function add(name: string): void {
  if (done.has(name)) return;
  done.add(name);
  const file = files.get(name);
  if (file === undefined) {
    missing.add(name);
    return;
  }
  for (const dependency of file.descriptor.dependency) add(dependency);
  ordered.push(file.bytes);
}
for (const name of [...files.keys()].sort()) add(name);
if (missing.size > 0) {
  console.error(`imported but not found: ${[...missing].join(", ")}`);
  process.exit(1);
}

const chunks: Uint8Array[] = [];
for (const bytes of ordered) {
  const head = [0x0a];
  for (let n = bytes.length; ; n >>>= 7) {
    if (n < 0x80) {
      head.push(n);
      break;
    }
    head.push((n & 0x7f) | 0x80);
  }
  chunks.push(Uint8Array.from(head), bytes);
}
const set = withOwnMessages(fromBinary(FileDescriptorSetSchema, Buffer.concat(chunks)));
// The set must stand on its own.
createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
console.log(`${files.size} files, ${set.length} bytes`);

if (out === "--check") {
  const parts = splitSet(readFileSync(current)).map((bytes) => [fromBinary(FileDescriptorProtoSchema, bytes).name, bytes] as const);
  const known = new Map(parts.filter(([name]) => !name.startsWith("outrider/")));
  const differences = [
    ...[...known.keys()].filter((name) => !files.has(name)).map((name) => `gone: ${name}`),
    ...[...files].filter(([name]) => !known.has(name)).map(([name]) => `new: ${name}`),
    ...[...files].filter(([name, file]) => known.has(name) && !Buffer.from(known.get(name)!).equals(file.bytes)).map(([name]) => `changed: ${name}`),
  ];
  for (const difference of differences) console.log(difference);
  console.log(differences.length === 0 ? "same as the set in the repository" : `${differences.length} differences`);
  process.exitCode = differences.length === 0 ? 0 : 1;
} else {
  const target = out ?? current;
  writeFileSync(target, set);
  console.log(`wrote ${out ?? current.pathname}`);
}

function splitSet(bytes: Uint8Array): Uint8Array[] {
  const reader = new WireReader(bytes);
  const parts: Uint8Array[] = [];
  while (!reader.done) {
    reader.uint32();
    parts.push(reader.slice());
  }
  return parts;
}
