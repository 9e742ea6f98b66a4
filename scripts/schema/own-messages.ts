/**
 * Messages of our own, beside Envoy's: filters in TypeScript. They stand in the same descriptor set, so that loading, checking and dumping know
 * them like any other. Run it to put them into the set of the repository, then generate-types.ts.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";

const field = (name: string, number: number, type: Type, typeName = ""): FieldDescriptorProto =>
  create(FieldDescriptorProtoSchema, { name, number, type, typeName, label: Label.OPTIONAL });

const moduleFile = create(FileDescriptorProtoSchema, {
  name: "outrider/extensions/filters/http/module/v1/module.proto",
  package: "outrider.extensions.filters.http.module.v1",
  syntax: "proto3",
  dependency: ["google/protobuf/duration.proto", "google/protobuf/struct.proto"],
  messageType: [
    {
      name: "Module",
      field: [
        // A TypeScript or JavaScript file; relative to the file that names it.
        field("path", 1, Type.STRING),
        // The export that is the filter; "default" where empty.
        field("export", 2, Type.STRING),
        field("config", 3, Type.MESSAGE, ".google.protobuf.Struct"),
        // A call that takes longer is counted and logged.
        field("time_budget", 4, Type.MESSAGE, ".google.protobuf.Duration"),
        // Requests go on without the filter when it throws, instead of being answered with 500.
        field("failure_mode_allow", 5, Type.BOOL),
      ],
    },
    { name: "ModulePerRoute", field: [field("config", 1, Type.MESSAGE, ".google.protobuf.Struct")] },
  ],
});

const isOwn = (name: string): boolean => name.startsWith("outrider/");

/** The set with our messages as they are now. */
export function withOwnMessages(set: FileDescriptorSet): Uint8Array {
  return toBinary(FileDescriptorSetSchema, { ...set, file: [...set.file.filter(({ name }) => !isOwn(name)), moduleFile] });
}

if (import.meta.main) {
  const path = new URL("../../src/config/schema/envoy-1.40.descriptors.binpb", import.meta.url);
  writeFileSync(path, withOwnMessages(fromBinary(FileDescriptorSetSchema, readFileSync(path))));
}
