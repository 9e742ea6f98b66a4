/**
 * Messages, fields and enums of the Envoy API, read from serialized descriptors by need.
 *
 * Not `@bufbuild/protobuf` reflection at run time: importing that package unbundled costs 70 ms and registering the files that a
 * plain configuration reaches 27 ms more, of a start-up budget of 300 ms. Decoding a message's descriptor when it is first asked for
 * costs microseconds. The package stays the oracle in tests (load.property.test.ts).
 */
import { WireReader } from "./wire.ts";

export type ScalarKind =
  | "double"
  | "float"
  | "int64"
  | "uint64"
  | "int32"
  | "fixed64"
  | "fixed32"
  | "bool"
  | "string"
  | "bytes"
  | "uint32"
  | "sfixed32"
  | "sfixed64"
  | "sint32"
  | "sint64";

/** google.protobuf.FieldDescriptorProto.Type by number. */
const fieldTypes: readonly (ScalarKind | "group" | "message" | "enum" | "")[] = [
  "",
  "double",
  "float",
  "int64",
  "uint64",
  "int32",
  "fixed64",
  "fixed32",
  "bool",
  "string",
  "group",
  "message",
  "bytes",
  "uint32",
  "enum",
  "sfixed32",
  "sfixed64",
  "sint32",
  "sint64",
];

/** Messages that the JSON mapping treats in a way of their own. */
export type SpecialMessage = "any" | "duration" | "timestamp" | "struct" | "value" | "list_value" | "empty" | "field_mask" | "wrapper";
const specialMessages: ReadonlyMap<string, SpecialMessage> = new Map<string, SpecialMessage>([
  ["google.protobuf.Any", "any"],
  ["google.protobuf.Duration", "duration"],
  ["google.protobuf.Timestamp", "timestamp"],
  ["google.protobuf.Struct", "struct"],
  ["google.protobuf.Value", "value"],
  ["google.protobuf.ListValue", "list_value"],
  ["google.protobuf.Empty", "empty"],
  ["google.protobuf.FieldMask", "field_mask"],
  ...["Bool", "UInt32", "Int32", "UInt64", "Int64", "Double", "Float", "String", "Bytes"].map((n) => [`google.protobuf.${n}Value`, "wrapper"] as const),
]);

/** Where descriptors resolve the names they mention. */
export interface DescriptorSource {
  message(typeName: string): MessageDesc | undefined;
  enumeration(typeName: string): EnumDesc | undefined;
  /** Decodes the PGV rules of a field (a serialized validate.FieldRules). */
  rules(bytes: Uint8Array): FieldRules;
}

/** A decoded validate.FieldRules: kept loose, pgv.ts reads it rule by rule. */
export interface FieldRules {
  readonly $typeName: string;
  readonly message?: { readonly skip?: boolean; readonly required?: boolean };
  readonly type: { readonly case: string | undefined; readonly value?: { readonly [rule: string]: unknown } };
}

export interface EnumValueDesc {
  readonly name: string;
  readonly number: number;
  readonly deprecated: boolean;
  readonly disallowedByDefault: boolean;
}

export class EnumDesc {
  readonly typeName: string;
  readonly values: readonly EnumValueDesc[];
  readonly #byNumber = new Map<number, EnumValueDesc>();
  readonly #byName = new Map<string, EnumValueDesc>();

  constructor(typeName: string, reader: WireReader) {
    this.typeName = typeName;
    const values: EnumValueDesc[] = [];
    while (!reader.done) {
      const tag = reader.uint32();
      if (tag === 0x12) values.push(enumValue(reader.sub()));
      else reader.skip(tag & 7);
    }
    this.values = values;
    for (const value of values) {
      if (!this.#byNumber.has(value.number)) this.#byNumber.set(value.number, value);
      this.#byName.set(value.name, value);
    }
  }

  byNumber(number: number): EnumValueDesc | undefined {
    return this.#byNumber.get(number);
  }

  /** By name, in any case of letters, as Envoy's JSON reader takes them. */
  byName(name: string): EnumValueDesc | undefined {
    return this.#byName.get(name) ?? this.#byName.get(name.toUpperCase()) ?? this.values.find((v) => v.name.toUpperCase() === name.toUpperCase());
  }
}

function enumValue(reader: WireReader): EnumValueDesc {
  let name = "";
  let number = 0;
  let deprecated = false;
  let disallowedByDefault = false;
  while (!reader.done) {
    const tag = reader.uint32();
    if (tag === 0x0a) name = reader.ascii();
    else if (tag === 0x10) number = reader.uint32() | 0;
    else if (tag === 0x1a) {
      const options = reader.sub();
      while (!options.done) {
        const option = options.uint32();
        const field = option >>> 3;
        if ((option & 7) !== 0) options.skip(option & 7);
        else if (field === 1) deprecated = options.uint32() !== 0;
        else if (field === 70100853) disallowedByDefault = options.uint32() !== 0;
        else options.uint32();
      }
    } else reader.skip(tag & 7);
  }
  return { name, number, deprecated, disallowedByDefault };
}

export class OneofDesc {
  readonly name: string;
  readonly localName: string;
  readonly fields: FieldDesc[] = [];
  /** validate.required */
  readonly required: boolean;

  constructor(name: string, required: boolean) {
    this.name = name;
    this.localName = localName(name);
    this.required = required;
  }
}

export class FieldDesc {
  readonly parent: MessageDesc;
  readonly name: string;
  readonly jsonName: string;
  /** The property of a loaded message: camelCase; of a member of a oneof: its `case`. */
  readonly localName: string;
  readonly number: number;
  readonly label: "one" | "list" | "map";
  /** Of the field, of a list's items, or of a map's values. */
  readonly type: ScalarKind | "message" | "enum";
  readonly typeName: string;
  readonly mapKey: ScalarKind | undefined;
  /** The real oneof it belongs to (proto3 `optional` is not one). */
  readonly oneof: OneofDesc | undefined;
  /** Whether unset and default differ: messages, `optional`, members of a oneof, proto2. */
  readonly explicit: boolean;
  readonly deprecated: boolean;
  /** envoy.annotations.disallowed_by_default: refused unless runtime allows it. */
  readonly disallowedByDefault: boolean;
  /** udpa.annotations.sensitive: never shown in dumps. */
  readonly sensitive: boolean;
  readonly #source: DescriptorSource;
  readonly #rulesBytes: Uint8Array | undefined;
  #rules: FieldRules | undefined;
  #message: MessageDesc | undefined;
  #enum: EnumDesc | undefined;

  constructor(parent: MessageDesc, raw: RawField, map: { key: ScalarKind; value: RawField } | undefined, source: DescriptorSource) {
    const typed = map?.value ?? raw;
    this.parent = parent;
    this.name = raw.name;
    this.localName = localName(raw.name);
    this.jsonName = raw.jsonName || this.localName;
    this.number = raw.number;
    this.label = map !== undefined ? "map" : raw.label === 3 ? "list" : "one";
    const type = fieldTypes[typed.type];
    this.type = type === "group" || type === "" || type === undefined ? "message" : type;
    this.typeName = typed.typeName;
    this.mapKey = map?.key;
    this.oneof = raw.oneofIndex === undefined || raw.proto3Optional ? undefined : parent.oneofs[raw.oneofIndex];
    this.oneof?.fields.push(this);
    this.explicit = this.label === "one" && (this.type === "message" || raw.proto3Optional || this.oneof !== undefined || parent.proto2);
    this.deprecated = raw.deprecated;
    this.disallowedByDefault = raw.disallowedByDefault;
    this.sensitive = raw.sensitive;
    this.#rulesBytes = raw.rules;
    this.#source = source;
  }

  /** Of its message type, known without reading that type's descriptor. */
  get special(): SpecialMessage | undefined {
    return this.type === "message" ? specialMessages.get(this.typeName) : undefined;
  }

  get message(): MessageDesc {
    return (this.#message ??= this.#source.message(this.typeName)) ?? fail(this.typeName);
  }

  get enum(): EnumDesc {
    return (this.#enum ??= this.#source.enumeration(this.typeName)) ?? fail(this.typeName);
  }

  /** PGV rules (validate.rules), where the field has any. */
  get rules(): FieldRules | undefined {
    return this.#rulesBytes === undefined ? undefined : (this.#rules ??= this.#source.rules(this.#rulesBytes));
  }
}

function fail(typeName: string): never {
  throw new Error(`the API descriptors lack ${typeName}`);
}

interface RawField {
  name: string;
  jsonName: string;
  number: number;
  label: number;
  type: number;
  typeName: string;
  oneofIndex: number | undefined;
  proto3Optional: boolean;
  deprecated: boolean;
  disallowedByDefault: boolean;
  sensitive: boolean;
  rules: Uint8Array | undefined;
}

export class MessageDesc {
  readonly typeName: string;
  readonly special: SpecialMessage | undefined;
  readonly proto2: boolean;
  readonly mapEntry: boolean;
  readonly deprecated: boolean;
  /** validate.disabled or validate.ignored: none of its rules hold. */
  readonly unchecked: boolean;
  readonly fields: readonly FieldDesc[];
  readonly oneofs: readonly OneofDesc[];
  readonly nestedMessageNames: readonly string[];
  readonly #byName = new Map<string, FieldDesc>();
  readonly #byNumber = new Map<number, FieldDesc>();
  readonly #nested = new Map<string, WireReader>();
  readonly #nestedEnums = new Map<string, WireReader>();

  constructor(typeName: string, reader: WireReader, proto2: boolean, source: DescriptorSource) {
    this.typeName = typeName;
    this.special = specialMessages.get(typeName);
    this.proto2 = proto2;
    const raw: RawField[] = [];
    const oneofs: OneofDesc[] = [];
    let mapEntry = false;
    let deprecated = false;
    let unchecked = false;
    while (!reader.done) {
      const tag = reader.uint32();
      switch (tag) {
        case 0x12: // field
          raw.push(rawField(reader.sub()));
          break;
        case 0x1a: {
          // nested_type
          const { start, end } = reader.range();
          this.#nested.set(nameOf(new WireReader(reader.bytes, start, end)), new WireReader(reader.bytes, start, end));
          break;
        }
        case 0x22: {
          // enum_type
          const { start, end } = reader.range();
          this.#nestedEnums.set(nameOf(new WireReader(reader.bytes, start, end)), new WireReader(reader.bytes, start, end));
          break;
        }
        case 0x3a: {
          // options
          const options = reader.sub();
          while (!options.done) {
            const option = options.uint32();
            const field = option >>> 3;
            if ((option & 7) !== 0) options.skip(option & 7);
            else {
              const on = options.uint32() !== 0;
              if (field === 3) deprecated = on;
              else if (field === 7) mapEntry = on;
              else if (field === 1071 || field === 1072) unchecked = on;
            }
          }
          break;
        }
        case 0x42: // oneof_decl
          oneofs.push(oneof(reader.sub()));
          break;
        default:
          reader.skip(tag & 7);
      }
    }
    this.mapEntry = mapEntry;
    this.deprecated = deprecated;
    this.unchecked = unchecked;
    this.nestedMessageNames = [...this.#nested.keys()].map((name) => `${typeName}.${name}`);
    // Oneofs of one proto3 optional field are synthetic; they come last and hold no field here.
    this.oneofs = oneofs;
    this.fields = raw.map((f) => new FieldDesc(this, f, this.#mapOf(f), source));
    for (const field of this.fields) {
      this.#byName.set(field.name, field);
      if (!this.#byName.has(field.jsonName)) this.#byName.set(field.jsonName, field);
      this.#byNumber.set(field.number, field);
    }
  }

  #mapOf(f: RawField): { key: ScalarKind; value: RawField } | undefined {
    if (f.label !== 3 || f.type !== 11 || !f.typeName.startsWith(`${this.typeName}.`)) return undefined;
    const nested = this.#nested.get(f.typeName.slice(this.typeName.length + 1));
    if (nested === undefined) return undefined;
    const entry = new WireReader(nested.bytes, nested.pos, nested.end);
    let isMap = false;
    const fields: RawField[] = [];
    while (!entry.done) {
      const tag = entry.uint32();
      if (tag === 0x12) fields.push(rawField(entry.sub()));
      else if (tag === 0x3a) {
        const options = entry.sub();
        while (!options.done) {
          const option = options.uint32();
          if (option === 0x38) isMap = options.uint32() !== 0;
          else options.skip(option & 7);
        }
      } else entry.skip(tag & 7);
    }
    if (!isMap) return undefined;
    return { key: fieldTypes[fields[0].type] as ScalarKind, value: fields[1] };
  }

  /** By proto name or JSON name. */
  field(name: string): FieldDesc | undefined {
    return this.#byName.get(name);
  }

  fieldByNumber(number: number): FieldDesc | undefined {
    return this.#byNumber.get(number);
  }

  nestedMessage(name: string): WireReader | undefined {
    const reader = this.#nested.get(name);
    return reader && new WireReader(reader.bytes, reader.pos, reader.end);
  }

  nestedEnum(name: string): WireReader | undefined {
    const reader = this.#nestedEnums.get(name);
    return reader && new WireReader(reader.bytes, reader.pos, reader.end);
  }
}

/** The name (field 1) of a serialized DescriptorProto, EnumDescriptorProto or FileDescriptorProto. */
export function nameOf(reader: WireReader): string {
  while (!reader.done) {
    const tag = reader.uint32();
    if (tag === 0x0a) return reader.ascii();
    reader.skip(tag & 7);
  }
  return "";
}

function oneof(reader: WireReader): OneofDesc {
  let name = "";
  let required = false;
  while (!reader.done) {
    const tag = reader.uint32();
    if (tag === 0x0a) name = reader.ascii();
    else if (tag === 0x12) {
      const options = reader.sub();
      while (!options.done) {
        const option = options.uint32();
        if (option >>> 3 === 1071 && (option & 7) === 0) required = options.uint32() !== 0;
        else options.skip(option & 7);
      }
    } else reader.skip(tag & 7);
  }
  return new OneofDesc(name, required);
}

function rawField(reader: WireReader): RawField {
  const field: RawField = {
    name: "",
    jsonName: "",
    number: 0,
    label: 1,
    type: 0,
    typeName: "",
    oneofIndex: undefined,
    proto3Optional: false,
    deprecated: false,
    disallowedByDefault: false,
    sensitive: false,
    rules: undefined,
  };
  while (!reader.done) {
    const tag = reader.uint32();
    switch (tag) {
      case 0x0a:
        field.name = reader.ascii();
        break;
      case 0x18:
        field.number = reader.uint32();
        break;
      case 0x20:
        field.label = reader.uint32();
        break;
      case 0x28:
        field.type = reader.uint32();
        break;
      case 0x32:
        field.typeName = reader.ascii().replace(/^\./, "");
        break;
      case 0x48:
        field.oneofIndex = reader.uint32();
        break;
      case 0x52:
        field.jsonName = reader.ascii();
        break;
      case 0x88:
        field.proto3Optional = reader.uint32() !== 0;
        break;
      case 0x42:
        fieldOptions(reader.sub(), field);
        break;
      default:
        reader.skip(tag & 7);
    }
  }
  return field;
}

function fieldOptions(options: WireReader, field: RawField): void {
  while (!options.done) {
    const tag = options.uint32();
    const number = tag >>> 3;
    if ((tag & 7) === 2 && number === 1071) field.rules = options.slice();
    else if ((tag & 7) !== 0) options.skip(tag & 7);
    else {
      const on = options.uint32() !== 0;
      if (number === 3) field.deprecated = on;
      else if (number === 76569463) field.sensitive = on;
      else if (number === 189503207) field.disallowedByDefault = on;
    }
  }
}

/** protobuf-es' name of a field as a property: lowerCamelCase, letters after digits kept as they are. */
export function localName(name: string): string {
  let out = "";
  let upper = false;
  for (const c of name) {
    if (c === "_") upper = true;
    else if (c >= "0" && c <= "9") {
      out += c;
      upper = false;
    } else {
      out += upper ? c.toUpperCase() : c;
      upper = false;
    }
  }
  return out === "constructor" || out === "toString" || out === "toJSON" || out === "valueOf" ? `${out}$` : out;
}
