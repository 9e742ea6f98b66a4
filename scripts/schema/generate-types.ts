/**
 * Writes src/config/schema/types/*.d.ts: one file a proto package, with the shape in which the loader hands
 * out configuration messages (see src/config/message.ts). Run: bin/node scripts/schema/generate-types.ts
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createFileRegistry, type DescEnum, type DescField, type DescFile, type DescMessage, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const schemaDir = new URL("../../src/config/schema/", import.meta.url);
const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL("envoy-1.40.descriptors.binpb", schemaDir)));
const registry = createFileRegistry(set);
const wanted = /^(envoy\.|xds\.|udpa\.|opentelemetry\.|outrider\.)/;

/** Well-known types whose shape in a message tree differs from a plain message; keep in step with message.ts. */
const special: Record<string, string> = {
  "google.protobuf.Any": "AnyMessage",
  "google.protobuf.Duration": "Duration",
  "google.protobuf.Timestamp": "Timestamp",
  "google.protobuf.Struct": "JsonObject",
  "google.protobuf.Value": "JsonValue",
  "google.protobuf.ListValue": "JsonValue[]",
  "google.protobuf.Empty": "Empty",
  "google.protobuf.BoolValue": "boolean",
  "google.protobuf.UInt32Value": "number",
  "google.protobuf.Int32Value": "number",
  "google.protobuf.UInt64Value": "bigint",
  "google.protobuf.Int64Value": "bigint",
  "google.protobuf.DoubleValue": "number",
  "google.protobuf.FloatValue": "number",
  "google.protobuf.StringValue": "string",
  "google.protobuf.BytesValue": "Uint8Array",
};

function scalar(type: ScalarType): string {
  switch (type) {
    case ScalarType.BOOL:
      return "boolean";
    case ScalarType.STRING:
      return "string";
    case ScalarType.BYTES:
      return "Uint8Array";
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return "bigint";
    default:
      return "number";
  }
}

const packageOf = (file: DescFile): string => file.proto.package;
const alias = (name: string): string => name.replaceAll(".", "_");
const local = (desc: DescMessage | DescEnum): string => {
  const prefix = desc.file.proto.package;
  return alias(prefix === "" ? desc.typeName : desc.typeName.slice(prefix.length + 1));
};

/** Every message, for the table that gives a message's type by its name. */
const all: { typeName: string; pkg: string; local: string }[] = [];

class PackageFile {
  readonly imports = new Set<string>();
  readonly lines: string[] = [];
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }

  ref(desc: DescMessage | DescEnum): string {
    const known = special[desc.typeName];
    if (known !== undefined) return known;
    const pkg = packageOf(desc.file);
    if (!wanted.test(`${pkg}.`)) return "OpaqueMessage";
    if (pkg === this.name) return local(desc);
    this.imports.add(pkg);
    return `${alias(pkg)}.${local(desc)}`;
  }

  field(f: DescField): string {
    switch (f.fieldKind) {
      case "scalar":
        return scalar(f.scalar);
      case "enum":
        return this.ref(f.enum);
      case "message":
        return this.ref(f.message);
      case "list": {
        const item = f.listKind === "scalar" ? scalar(f.scalar) : this.ref(f.listKind === "enum" ? f.enum : f.message);
        return `${item}[]`;
      }
      case "map": {
        const value = f.mapKind === "scalar" ? scalar(f.scalar) : this.ref(f.mapKind === "enum" ? f.enum : f.message);
        return `{ [key: string]: ${value} }`;
      }
    }
  }

  message(m: DescMessage): void {
    if (special[m.typeName] !== undefined || m.proto.options?.mapEntry === true) return;
    all.push({ typeName: m.typeName, pkg: this.name, local: local(m) });
    this.lines.push(`/** ${m.typeName} */`, `export interface ${local(m)} {`, `  $typeName: "${m.typeName}";`);
    for (const member of m.members) {
      if (member.kind === "oneof") {
        const cases = member.fields.map((f) => `{ case: "${f.localName}"; value: ${this.field(f)} }`);
        this.lines.push(`  ${member.localName}: ${[...cases, "{ case: undefined; value?: undefined }"].join(" | ")};`);
      } else {
        const optional = member.fieldKind === "message" || (member.presence === 1 && member.fieldKind !== "list" && member.fieldKind !== "map");
        this.lines.push(`  ${member.localName}${optional ? "?" : ""}: ${this.field(member)}${optional ? " | undefined" : ""};`);
      }
    }
    this.lines.push("}");
    for (const e of m.nestedEnums) this.enumeration(e);
    for (const n of m.nestedMessages) this.message(n);
  }

  enumeration(e: DescEnum): void {
    this.lines.push(`/** ${e.typeName}: ${e.values.map((v) => `${v.number} ${v.name}`).join(", ")} */`);
    this.lines.push(`export type ${local(e)} = ${[...new Set(e.values.map((v) => v.number))].join(" | ")};`);
  }
}

const packages = new Map<string, PackageFile>();
for (const file of registry.files) {
  const pkg = packageOf(file);
  if (!wanted.test(`${pkg}.`)) continue;
  let out = packages.get(pkg);
  if (out === undefined) packages.set(pkg, (out = new PackageFile(pkg)));
  for (const e of file.enums) out.enumeration(e);
  for (const m of file.messages) out.message(m);
}
const dir = new URL("types/", schemaDir);
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir);
for (const [name, out] of packages) {
  const head = [
    "// Generated by scripts/schema/generate-types.ts from envoy-1.40.descriptors.binpb. Do not edit.",
    'import type { AnyMessage, Duration, Empty, JsonObject, JsonValue, OpaqueMessage, Timestamp } from "../../message.ts";',
    ...[...out.imports].sort().map((i) => `import type * as ${alias(i)} from "./${i}.d.ts";`),
    "",
  ];
  writeFileSync(new URL(`${name}.d.ts`, dir), `${[...head, ...out.lines].join("\n")}\n`);
}
const table = [
  "// Generated by scripts/schema/generate-types.ts from envoy-1.40.descriptors.binpb. Do not edit.",
  ...[...packages.keys()].sort().map((i) => `import type * as ${alias(i)} from "./${i}.d.ts";`),
  "",
  "/** Message types by full name. */",
  "export interface Messages {",
  ...all.map((m) => `  "${m.typeName}": ${alias(m.pkg)}.${m.local};`),
  "}",
];
writeFileSync(new URL("messages.d.ts", dir), `${table.join("\n")}\n`);
console.log(`wrote ${packages.size} packages`);
