/**
 * Syntax tree + descriptor -> message tree, with every problem on the way as a finding at its place.
 *
 * The mapping is proto JSON (https://protobuf.dev/programming-guides/json/) as Envoy 1.40 really reads it: enums in any case, booleans and
 * numbers in quotes, a lone value where a list is expected, durations and wrappers also as messages.
 */
import { decodeMessage } from "./binary.ts";
import type { Finding, Origin } from "./finding.ts";
import { type Parsed, parseBase64, parseBool, parseDuration, parseFieldMask, parseFloating, parseInteger, parseTimestamp } from "./json-values.ts";
import type { JsonObject, JsonValue } from "./message.ts";
import { nearest } from "./nearest.ts";
import { joinPath, type Origins, originAt, originOfPlace, type Place, pathOf, segment } from "./origins.ts";
import type { EnumDesc, FieldDesc, MessageDesc } from "./schema/descriptor.ts";
import type { Schema } from "./schema/registry.ts";
import { WireError } from "./schema/wire.ts";
import { createMessage, type LoadedMessage, scalarDefault, setField, setKey } from "./shape.ts";
import type { MapEntry, MapNode, ScalarNode, SourceText, SyntaxNode } from "./syntax.ts";

/** A file with more mistakes than this has one mistake. */
const maxFindings = 500;
const maxDepth = 150;

export type UnknownFieldPolicy = "reject" | "warn" | "ignore";

/** What one load collects, over all its sources. */
export class LoadRun {
  readonly schema: Schema;
  readonly origins: Origins;
  readonly unknownFields: UnknownFieldPolicy;
  readonly findings: Finding[] = [];
  /** Type names of everything that was unpacked from an Any. */
  readonly extensionMessages = new Set<string>();
  unknownFieldCount = 0;
  readonly #broken = new WeakMap<object, Set<string>>();

  constructor(schema: Schema, origins: Origins, unknownFields: UnknownFieldPolicy) {
    this.schema = schema;
    this.origins = origins;
    this.unknownFields = unknownFields;
  }

  add(code: Finding["code"], text: string, origin: Origin | undefined, hint?: string, severity: Finding["severity"] = "error"): void {
    if (this.findings.length < maxFindings) this.findings.push({ code, severity, text, origin, hint });
  }

  /** A field that has a finding already: rules about it would only repeat that. */
  markBroken(message: object, field: string): void {
    const broken = this.#broken.get(message);
    if (broken === undefined) this.#broken.set(message, new Set([field]));
    else broken.add(field);
  }

  isBroken(message: object, field: string): boolean {
    return this.#broken.get(message)?.has(field) === true;
  }

  get failed(): boolean {
    return this.findings.some((f) => f.severity === "error");
  }

  unknownField(name: string, desc: MessageDesc, origin: Origin | undefined, message?: object): void {
    this.unknownFieldCount++;
    if (this.unknownFields === "ignore") return;
    const near = nearest(
      name,
      desc.fields.map((f) => f.name),
    );
    // The field that was meant is not missing as well.
    if (message !== undefined && near !== undefined) this.markBroken(message, near);
    const known = desc.fields.filter((f) => !f.deprecated).map((f) => f.name);
    const hint =
      near !== undefined
        ? `did you mean "${near}"?`
        : known.length === 0
          ? "the message has no fields"
          : known.length <= 8
            ? `known fields: ${known.join(", ")}`
            : undefined;
    this.add("OR1103", `unknown field ${quote(name)} in ${desc.typeName}`, origin, hint, this.unknownFields === "warn" ? "warning" : "error");
  }

  unknownType(url: string, typeName: string, origin: Origin | undefined): void {
    const last = (name: string): string => name.slice(name.lastIndexOf(".") + 1);
    const names = [...this.schema.messageNames()].filter((n) => !n.startsWith("google.") && !n.startsWith("validate."));
    const whole = nearest(typeName, names);
    const near = whole ?? names.find((n) => n.startsWith("envoy.") && last(n) === last(typeName));
    this.add("OR1109", `unknown type ${quote(url)}`, origin, near === undefined ? undefined : `did you mean "type.googleapis.com/${near}"?`);
  }

  hasType(url: string): boolean {
    return this.schema.message(url.slice(url.lastIndexOf("/") + 1)) !== undefined;
  }

  /** The message that a type URL names; a finding where it names none. */
  typeOf(url: string, origin: Origin | undefined): MessageDesc | undefined {
    const slash = url.lastIndexOf("/");
    const typeName = url.slice(slash + 1);
    if (slash <= 0) {
      this.add("OR1109", `type URL ${quote(url)} has no host before the type`, origin, `write "type.googleapis.com/${typeName}"`);
      return undefined;
    }
    const desc = this.schema.message(typeName);
    if (desc === undefined || desc.mapEntry) {
      this.unknownType(url, typeName, origin);
      return undefined;
    }
    this.extensionMessages.add(typeName);
    return desc;
  }
}

export const typedStructs: ReadonlySet<string> = new Set(["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"]);

/** Where a cluster lists its load balancing policies. */
const policyPath = /\bpolicies\[\d+\]\.typed_extension_config\.typed_config$/;

/** No value: a finding said why, or null stood for an absent field. */
const absent: unique symbol = Symbol("absent");
type MaybeValue = unknown | typeof absent;

export class MessageReader {
  readonly #run: LoadRun;
  readonly #source: SourceText;
  /** The text format differs from JSON: repeated fields by repeating the name, maps as entries, well-known types as plain messages. */
  readonly #textFormat: boolean;
  #depth = 0;

  constructor(run: LoadRun, source: SourceText, textFormat = false) {
    this.#run = run;
    this.#source = source;
    this.#textFormat = textFormat;
  }

  root(node: SyntaxNode, desc: MessageDesc): LoadedMessage | undefined {
    const place: Place = { source: this.#source, node, parent: undefined, field: undefined, key: undefined };
    if (node.kind !== "map") {
      this.#run.add("OR1002", `expected ${article(desc.typeName)} message, found ${describe(node)}`, originOfPlace(place));
      return undefined;
    }
    return this.#message(node, desc, place);
  }

  /** A resource: an Any at the root. */
  rootAny(node: SyntaxNode, path: Place | undefined): LoadedMessage | undefined {
    const place = path ?? { source: this.#source, node, parent: undefined, field: undefined, key: undefined };
    if (node.kind !== "map") {
      this.#run.add("OR1002", `expected a message with "@type", found ${describe(node)}`, originOfPlace(place));
      return undefined;
    }
    return this.#any(node, place);
  }

  #origin(node: { start: number; end: number }, path: string): Origin {
    return originAt(this.#source, node.start, node.end, path);
  }

  #message(node: MapNode, desc: MessageDesc, place: Place, skipKey?: string): LoadedMessage {
    const message = createMessage(desc);
    this.#run.origins.set(message, place);
    if (++this.#depth > maxDepth) {
      this.#run.add("OR1001", `nested deeper than ${maxDepth} messages`, originOfPlace(place));
      this.#depth--;
      return message;
    }
    const seen: MapEntry[] = [];
    const seenFields: FieldDesc[] = [];
    for (const entry of node.entries) {
      if (skipKey !== undefined && entry.key === skipKey) continue;
      const field = desc.field(entry.key);
      if (field === undefined) {
        this.#run.unknownField(entry.key, desc, originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), entry.key)), message);
        continue;
      }
      const repeat = seenFields.indexOf(field);
      if (repeat >= 0 && !this.#textFormat) {
        const names = seen[repeat].key === entry.key ? quote(entry.key) : `${quote(seen[repeat].key)} and ${quote(entry.key)}`;
        this.#run.add(
          "OR1101",
          `${names} given twice: the later one counts`,
          originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), field.name)),
          `first given on line ${this.#source.position(seen[repeat].keyStart).line}`,
          "warning",
        );
        if (field.label === "list") message[field.localName] = [];
        else if (field.label === "map") message[field.localName] = {};
      }
      if (entry.value.kind === "scalar" && entry.value.type === "null" && !takesNull(field)) continue;
      if (field.oneof !== undefined) {
        const other = seenFields.find((f) => f.oneof === field.oneof && f !== field);
        if (other !== undefined) {
          this.#run.add(
            "OR1108",
            `both ${quote(other.name)} and ${quote(field.name)} are set, they are alternatives (oneof ${field.oneof.name})`,
            originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), field.name)),
            `keep one of them; "${other.name}" is on line ${this.#source.position(seen[seenFields.indexOf(other)].keyStart).line}`,
          );
          continue;
        }
      }
      seen.push(entry);
      seenFields.push(field);
      this.#field(message, field, entry, place);
    }
    this.#depth--;
    return message;
  }

  #field(message: LoadedMessage, field: FieldDesc, entry: MapEntry, place: Place): void {
    const node = entry.value;
    if (field.label === "map") {
      if (this.#textFormat) this.#textMapEntry(message[field.localName] as object, field, node, place);
      else this.#map(message[field.localName] as object, field, node, place);
      return;
    }
    if (field.label === "list") {
      const list = message[field.localName] as unknown[];
      if (node.kind === "list" && !(field.type === "message" && field.special === "list_value" && this.#textFormat)) {
        for (const item of node.items) {
          const value = this.#listItem(item, field, place, list.length);
          if (value !== absent) list.push(value);
          else this.#run.markBroken(message, field.name);
        }
        return;
      }
      // Envoy takes a lone value for a list of one.
      if (!this.#textFormat)
        this.#run.add(
          "OR1114",
          `${quote(field.name)} is a list: a lone value is taken for a list of one`,
          originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), field.name)),
          'put "- " before the item',
          "warning",
        );
      const value = this.#listItem(node, field, place, list.length);
      if (value !== absent) list.push(value);
      else this.#run.markBroken(message, field.name);
      return;
    }
    const value = this.#value(node, field, place, undefined);
    if (value !== absent) setField(message, field, value);
    else this.#run.markBroken(message, field.name);
  }

  #listItem(item: SyntaxNode, field: FieldDesc, place: Place, index: number): MaybeValue {
    if (item.kind === "scalar" && item.type === "null" && !takesNull(field)) {
      // A null in a list is an item with nothing set.
      return field.type === "message" ? this.#value({ kind: "map", start: item.start, end: item.end, entries: [] }, field, place, index) : scalarDefault(field);
    }
    return this.#value(item, field, place, index);
  }

  #map(target: object, field: FieldDesc, node: SyntaxNode, place: Place): void {
    if (node.kind !== "map") {
      this.#wrongType(node, "a map", field, place, undefined);
      return;
    }
    for (const entry of node.entries) {
      const key = this.#mapKey(entry.key, field, entry, place);
      if (key === undefined) continue;
      if (Object.hasOwn(target, key)) {
        this.#run.add(
          "OR1101",
          `${quote(key)} given twice: the later one counts`,
          originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), segment(field.name, key))),
          undefined,
          "warning",
        );
      }
      const isNull = entry.value.kind === "scalar" && entry.value.type === "null" && !takesNull(field);
      const value = !isNull
        ? this.#value(entry.value, field, place, key)
        : field.type === "message"
          ? this.#value({ kind: "map", start: entry.value.start, end: entry.value.end, entries: [] }, field, place, key)
          : scalarDefault(field);
      if (value !== absent) setKey(target, key, value);
    }
  }

  #mapKey(text: string, field: FieldDesc, at: MapEntry, place: Place): string | undefined {
    let why: string | undefined;
    let key: string | undefined;
    if (field.mapKey === "string") return text;
    if (field.mapKey === "bool") {
      const value = parseBool(text);
      if (value === undefined) why = "is neither true nor false";
      else key = String(value);
    } else {
      const parsed = parseInteger(text, field.mapKey as "int32");
      if ("why" in parsed) why = parsed.why;
      else key = String(parsed.value);
    }
    if (key === undefined)
      this.#run.add(
        "OR1104",
        `key ${quote(text)} of ${quote(field.name)} ${why}`,
        originAt(this.#source, at.keyStart, at.keyEnd, joinPath(pathOf(place), segment(field.name, text))),
      );
    return key;
  }

  #textMapEntry(target: object, field: FieldDesc, node: SyntaxNode, place: Place): void {
    for (const item of node.kind === "list" ? node.items : [node]) {
      if (item.kind !== "map") {
        this.#wrongType(item, "a map entry { key: ... value: ... }", field, place, undefined);
        continue;
      }
      const keyNode = item.entries.findLast((e) => e.key === "key");
      const valueNode = item.entries.findLast((e) => e.key === "value");
      const keyText = keyNode?.value.kind === "scalar" ? textOf(keyNode.value) : field.mapKey === "string" ? "" : field.mapKey === "bool" ? "false" : "0";
      const key = this.#mapKey(keyText, field, keyNode ?? { key: "", keyStart: item.start, keyEnd: item.end, value: item }, place);
      if (key === undefined) continue;
      const value =
        valueNode !== undefined
          ? this.#value(valueNode.value, field, place, key)
          : field.type === "message"
            ? this.#value({ kind: "map", start: item.start, end: item.end, entries: [] }, field, place, key)
            : scalarDefault(field);
      if (value !== absent) setKey(target, key, value);
    }
  }

  #path(place: Place, field: FieldDesc, key: number | string | undefined): string {
    return joinPath(pathOf(place), segment(field.name, key));
  }

  #wrongType(node: SyntaxNode, expected: string, field: FieldDesc, place: Place, key: number | string | undefined, hint?: string): typeof absent {
    const end = node.kind === "scalar" ? node.end : node.start + 1;
    this.#run.add(
      "OR1104",
      `${quote(field.name)} expects ${expected}, found ${describe(node)}`,
      this.#origin({ start: node.start, end }, this.#path(place, field, key)),
      hint,
    );
    return absent;
  }

  #badValue(
    node: ScalarNode,
    why: string,
    code: Finding["code"],
    field: FieldDesc,
    place: Place,
    key: number | string | undefined,
    hint?: string,
  ): typeof absent {
    this.#run.add(code, `${quote(field.name)}: ${quote(node.text)} ${why}`, this.#origin(node, this.#path(place, field, key)), hint);
    return absent;
  }

  #value(node: SyntaxNode, field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    if (field.type === "message") return this.#messageValue(node, field, place, key);
    return this.#scalar(node, field, field, place, key);
  }

  /** `type` is the field that gives the scalar's type: the field itself, or `value` of a wrapper. */
  #scalar(node: SyntaxNode, type: FieldDesc, field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    if (node.kind !== "scalar") return this.#wrongType(node, scalarName(type), field, place, key);
    switch (type.type) {
      case "string": {
        if (node.type !== "string")
          return this.#wrongType(
            node,
            "a string",
            field,
            place,
            key,
            node.type === "int" || node.type === "bool" || node.type === "float"
              ? `put it in quotes: "${this.#source.text.slice(node.start, node.end)}"`
              : undefined,
          );
        return this.#textFormat ? latin1ToUtf8(node.text) : node.text;
      }
      case "bytes": {
        if (node.type !== "string") return this.#wrongType(node, "bytes as base64 text", field, place, key);
        if (this.#textFormat) return Uint8Array.from(Buffer.from(node.text, "latin1"));
        return this.#parsed(parseBase64(node.text), node, "OR1107", field, place, key);
      }
      case "bool": {
        const value =
          node.type === "bool" || node.type === "string" || node.type === "word" || (this.#textFormat && node.type === "int")
            ? parseBool(node.text)
            : undefined;
        return value ?? this.#wrongType(node, "true or false", field, place, key);
      }
      case "double":
      case "float": {
        if (node.type === "bool" || node.type === "null") return this.#wrongType(node, "a number", field, place, key);
        const parsed = parseFloating(node.text, type.type);
        if ("why" in parsed && parsed.why === "is not a number") return this.#wrongType(node, "a number", field, place, key);
        return this.#parsed(parsed, node, "OR1105", field, place, key);
      }
      case "enum":
        return this.#enum(node, type.enum, field, place, key);
      case "message":
        return absent;
      default: {
        if (node.type === "bool" || node.type === "null" || node.type === "word") return this.#wrongType(node, "a whole number", field, place, key);
        const parsed = parseInteger(node.text, type.type);
        if ("why" in parsed) {
          if (parsed.why === "is not a number") return this.#wrongType(node, "a whole number", field, place, key);
          return this.#badValue(node, parsed.why, "OR1105", field, place, key);
        }
        return type.type.endsWith("64") ? parsed.value : Number(parsed.value);
      }
    }
  }

  #parsed<T>(parsed: Parsed<T>, node: ScalarNode, code: Finding["code"], field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    return "why" in parsed ? this.#badValue(node, parsed.why, code, field, place, key) : parsed.value;
  }

  #enum(node: ScalarNode, desc: EnumDesc, field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    if (node.type === "int" || (node.type === "string" && /^[+-]?\d+$/.test(node.text))) {
      return this.#parsedNumber(parseInteger(node.text, "int32"), node, field, place, key);
    }
    if (node.type !== "string" && node.type !== "word") {
      // YAML reads the enum name ON or NO as a bool.
      const raw = desc.byName(this.#source.text.slice(node.start, node.end));
      return raw !== undefined ? raw.number : this.#wrongType(node, "an enum name", field, place, key);
    }
    const value = desc.byName(node.text);
    if (value !== undefined) return value.number;
    const names = desc.values.map((v) => v.name);
    const near = nearest(node.text, names);
    return this.#badValue(
      node,
      `is no value of ${desc.typeName}`,
      "OR1106",
      field,
      place,
      key,
      near !== undefined ? `did you mean "${near}"?` : names.length <= 16 ? `one of ${names.join(", ")}` : undefined,
    );
  }

  #parsedNumber(parsed: Parsed<bigint>, node: ScalarNode, field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    return "why" in parsed ? this.#badValue(node, parsed.why, "OR1105", field, place, key) : Number(parsed.value);
  }

  #messageValue(node: SyntaxNode, field: FieldDesc, place: Place, key: number | string | undefined): MaybeValue {
    const desc = field.message;
    const inner: Place = { source: this.#source, node, parent: place, field, key };
    if (this.#textFormat && (desc.special === "struct" || desc.special === "value" || desc.special === "list_value")) return this.#textJson(node, desc, inner);
    switch (desc.special) {
      case "wrapper": {
        if (node.kind === "map") return this.#unwrap(this.#message(node, desc, inner));
        return this.#scalar(node, desc.fields[0], field, place, key);
      }
      case "duration":
      case "timestamp": {
        if (node.kind === "map") return this.#message(node, desc, inner);
        if (node.kind !== "scalar" || node.type !== "string") {
          return this.#wrongType(
            node,
            desc.special === "duration" ? "a duration" : "a timestamp",
            field,
            place,
            key,
            desc.special === "duration" && node.kind === "scalar" && node.type === "int" ? `did you mean "${node.text}s"?` : undefined,
          );
        }
        const parsed = desc.special === "duration" ? parseDuration(node.text) : parseTimestamp(node.text);
        if ("why" in parsed) {
          const suggestion = desc.special === "duration" ? suggestDuration(node.text) : undefined;
          return this.#badValue(
            node,
            `is not a ${desc.special}: it ${parsed.why}`,
            "OR1107",
            field,
            place,
            key,
            suggestion === undefined ? undefined : `did you mean "${suggestion}"?`,
          );
        }
        const message: LoadedMessage = { $typeName: desc.typeName, ...parsed.value };
        this.#run.origins.set(message, inner);
        return message;
      }
      case "field_mask": {
        if (node.kind === "map") return this.#message(node, desc, inner);
        if (node.kind !== "scalar" || node.type !== "string") return this.#wrongType(node, "a field mask", field, place, key);
        const message: LoadedMessage = { $typeName: desc.typeName, paths: parseFieldMask(node.text) };
        this.#run.origins.set(message, inner);
        return message;
      }
      case "value":
        return this.#json(node, 0);
      case "struct":
        return node.kind === "map" ? this.#json(node, 0) : this.#wrongType(node, "a map", field, place, key);
      case "list_value":
        return node.kind === "list" ? this.#json(node, 0) : this.#wrongType(node, "a list", field, place, key);
      case "any": {
        if (node.kind !== "map") return this.#wrongType(node, 'a message with "@type"', field, place, key);
        return this.#any(node, inner) ?? absent;
      }
      default: {
        if (node.kind !== "map") return this.#wrongType(node, `${article(desc.typeName)} message`, field, place, key);
        return this.#message(node, desc, inner);
      }
    }
  }

  #unwrap(message: LoadedMessage): unknown {
    return message["value"];
  }

  #json(node: SyntaxNode, depth: number): JsonValue {
    if (depth > maxDepth) return null;
    switch (node.kind) {
      case "map": {
        const object: JsonObject = {};
        for (const entry of node.entries) setKey(object, entry.key, this.#json(entry.value, depth + 1));
        return object;
      }
      case "list":
        return node.items.map((item) => this.#json(item, depth + 1));
      case "scalar":
        switch (node.type) {
          case "null":
            return null;
          case "bool":
            return node.text === "true";
          case "int":
          case "float":
            return Number(node.text);
          default:
            return node.text;
        }
    }
  }

  /** Struct, Value and ListValue spelt as messages, as the text format does. */
  #textJson(node: SyntaxNode, desc: MessageDesc, place: Place): MaybeValue {
    if (node.kind !== "map") {
      this.#run.add("OR1104", `expected ${article(desc.typeName)} message, found ${describe(node)}`, originOfPlace(place));
      return absent;
    }
    if (desc.special === "list_value") {
      const list = this.#message(node, desc, place)["values"];
      return list;
    }
    const message = this.#message(node, desc, place);
    if (desc.special === "struct") return message["fields"];
    const kind = message["kind"] as { case?: string; value?: unknown };
    return kind.case === undefined || kind.case === "nullValue" ? null : kind.value;
  }

  #any(node: MapNode, place: Place): LoadedMessage | undefined {
    if (this.#textFormat) return this.#textAny(node, place);
    const entry = node.entries.findLast((e) => e.key === "@type");
    if (entry === undefined || entry.value.kind !== "scalar" || entry.value.type !== "string" || entry.value.text === "") {
      const given = node.entries.map((e) => e.key);
      // An empty Any is all that it takes to switch a filter on for a route.
      if (given.length === 0 && place.field?.name === "config" && place.field.parent.typeName === "envoy.config.route.v3.FilterConfig")
        return { $typeName: "google.protobuf.Any", typeUrl: "", value: new Uint8Array(0) };
      this.#run.add(
        "OR1110",
        `${quote(place.field?.name ?? "resource")} has no "@type"${given.length > 0 ? `, only ${given.slice(0, 5).map(quote).join(", ")}` : ""}`,
        originOfPlace(place),
        'say which message it is: "@type": type.googleapis.com/...',
      );
      return undefined;
    }
    const origin = originAt(this.#source, entry.value.start, entry.value.end, joinPath(pathOf(place), "@type"));
    const desc = this.#run.typeOf(entry.value.text, origin);
    if (desc === undefined) return undefined;
    if (typedStructs.has(desc.typeName)) return this.#typedStruct(node, desc, place);
    if (desc.special !== undefined && desc.special !== "empty") return this.#specialAny(node, desc, place);
    return this.#message(node, desc, place, "@type");
  }

  /** A TypedStruct means the message its type_url names; its value is that message as JSON. */
  #typedStruct(node: MapNode, desc: MessageDesc, place: Place): LoadedMessage | undefined {
    const url = node.entries.findLast((e) => desc.field(e.key)?.name === "type_url");
    const value = node.entries.findLast((e) => desc.field(e.key)?.name === "value");
    for (const entry of node.entries) {
      if (entry.key !== "@type" && desc.field(entry.key) === undefined)
        this.#run.unknownField(entry.key, desc, originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), entry.key)));
    }
    if (url === undefined || url.value.kind !== "scalar" || url.value.type !== "string") {
      this.#run.add("OR1110", `a TypedStruct without "type_url" names no message`, originOfPlace(place), '"type_url": type.googleapis.com/...');
      return undefined;
    }
    // The first policy that is known counts: others need not be, and stay what they are.
    if (policyPath.test(pathOf(place)) && !this.#run.hasType(url.value.text)) return this.#message(node, desc, place, "@type");
    const inner = this.#run.typeOf(url.value.text, originAt(this.#source, url.value.start, url.value.end, joinPath(pathOf(place), "type_url")));
    if (inner === undefined) return undefined;
    const valueNode: SyntaxNode =
      value === undefined || (value.value.kind === "scalar" && value.value.type === "null")
        ? { kind: "map", start: node.start, end: node.end, entries: [] }
        : value.value;
    if (valueNode.kind !== "map") {
      this.#run.add(
        "OR1104",
        `"value" expects ${article(inner.typeName)} message, found ${describe(valueNode)}`,
        originAt(this.#source, valueNode.start, valueNode.end, joinPath(pathOf(place), "value")),
      );
      return undefined;
    }
    return this.#message(valueNode, inner, { ...place, node: valueNode });
  }

  /** Well-known types inside an Any stand under "value". They keep their field names there, with their JSON as the value. */
  #specialAny(node: MapNode, desc: MessageDesc, place: Place): LoadedMessage | undefined {
    const value = node.entries.findLast((e) => e.key === "value");
    for (const entry of node.entries) {
      if (entry.key !== "@type" && entry.key !== "value")
        this.#run.unknownField(entry.key, desc, originAt(this.#source, entry.keyStart, entry.keyEnd, joinPath(pathOf(place), entry.key)));
    }
    if (value === undefined) return createSpecial(desc, undefined);
    const holder = desc.fields[0];
    const inner = value.value;
    if (desc.special === "any") return inner.kind === "map" ? this.#any(inner, place) : undefined;
    if (desc.special === "wrapper") {
      const scalar = this.#scalar(inner, holder, holder, place, undefined);
      return scalar === absent ? undefined : { $typeName: desc.typeName, value: scalar };
    }
    if (desc.special === "duration" || desc.special === "timestamp") {
      const parsed =
        inner.kind !== "scalar" || inner.type !== "string"
          ? { why: "is not text" }
          : desc.special === "duration"
            ? parseDuration(inner.text)
            : parseTimestamp(inner.text);
      if ("why" in parsed) {
        this.#run.add(
          "OR1107",
          `"value" is not a ${desc.special}: it ${parsed.why}`,
          originAt(this.#source, inner.start, inner.end, joinPath(pathOf(place), "value")),
        );
        return undefined;
      }
      return { $typeName: desc.typeName, ...parsed.value };
    }
    if (desc.special === "field_mask") return { $typeName: desc.typeName, paths: inner.kind === "scalar" ? parseFieldMask(inner.text) : [] };
    return createSpecial(desc, this.#json(inner, 0));
  }

  #textAny(node: MapNode, place: Place): LoadedMessage | undefined {
    const named = node.entries.find((e) => e.key.startsWith("["));
    if (named !== undefined) {
      const desc = this.#run.typeOf(named.key.slice(1, -1), originAt(this.#source, named.keyStart, named.keyEnd, pathOf(place)));
      if (desc === undefined) return undefined;
      if (named.value.kind !== "map") {
        this.#run.add("OR1104", `expected ${article(desc.typeName)} message, found ${describe(named.value)}`, originOfPlace(place));
        return undefined;
      }
      const inner: Place = { ...place, node: named.value };
      if (typedStructs.has(desc.typeName)) {
        const struct = this.#message(named.value, desc, inner);
        return this.jsonMessage(struct["typeUrl"] as string, (struct["value"] ?? {}) as JsonObject, inner);
      }
      if (desc.special === "struct" || desc.special === "value" || desc.special === "list_value") {
        const json = this.#textJson(named.value, desc, inner);
        return createSpecial(desc, json === absent ? undefined : (json as JsonValue));
      }
      return this.#message(named.value, desc, inner);
    }
    const any = this.#message(node, this.#run.schema.message("google.protobuf.Any")!, place);
    return unpackAny(this.#run, any["typeUrl"] as string, any["value"] as Uint8Array, place);
  }

  /** A message given as plain JSON (the value of a TypedStruct that came in binary or text form). */
  jsonMessage(url: string, json: JsonObject, place: Place): LoadedMessage | undefined {
    const desc = this.#run.typeOf(url, originOfPlace(place));
    return desc && new MessageReader(this.#run, this.#source).#message(jsonNode(json) as MapNode, desc, place);
  }
}

/** Decodes what an Any holds; a finding where its type is unknown or its bytes are bad. */
export function unpackAny(run: LoadRun, url: string, bytes: Uint8Array, place: Place): LoadedMessage | undefined {
  if (url === "") {
    run.add("OR1110", `${quote(place.field?.name ?? "value")} has no type URL`, originOfPlace(place));
    return undefined;
  }
  const desc = run.typeOf(url, originOfPlace(place));
  if (desc === undefined) return undefined;
  const message = readBinary(run, desc, bytes, place);
  if (message === undefined) return undefined;
  if (typedStructs.has(desc.typeName))
    return new MessageReader(run, place.source).jsonMessage(message["typeUrl"] as string, (message["value"] ?? {}) as JsonObject, place);
  switch (desc.special) {
    case "struct":
    case "list_value":
    case "value": {
      // Decoded as a plain message, whose fields already hold JSON.
      const kind = message["kind"] as { value?: JsonValue } | undefined;
      return createSpecial(desc, (message["fields"] ?? message["values"] ?? kind?.value ?? null) as JsonValue);
    }
    default:
      return message;
  }
}

/** A message in protobuf's binary format, its Anys unpacked. */
export function readBinary(run: LoadRun, desc: MessageDesc, bytes: Uint8Array, place: Place): LoadedMessage | undefined {
  const places = new WeakMap<object, Place>();
  const placeOf = (message: object): Place => places.get(message) ?? place;
  try {
    const message = decodeMessage(desc, bytes, {
      unknownField(unknownIn, number, at) {
        const field = `#${number}`;
        run.unknownField(field, unknownIn, originOfPlace(place, joinPath(pathOf(placeOf(at)), field)));
      },
      any: (url, value, parent, field, key) => unpackAny(run, url, value, { source: place.source, node: undefined, parent: placeOf(parent), field, key }),
      placed(child, parent, field, key) {
        const at: Place = { source: place.source, node: undefined, parent: placeOf(parent), field, key };
        places.set(child, at);
        run.origins.set(child, at);
      },
    });
    run.origins.set(message, place);
    return message;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    run.add("OR1001", `not a binary ${desc.typeName}: ${error.message}`, originOfPlace(place));
    return undefined;
  }
}

/** Struct, Value and ListValue as the contents of an Any: the message with its one field as JSON. */
function createSpecial(desc: MessageDesc, json: JsonValue | undefined): LoadedMessage {
  if (json === undefined || (desc.special !== "struct" && desc.special !== "value" && desc.special !== "list_value")) return createMessage(desc);
  return { $typeName: desc.typeName, [desc.special === "struct" ? "fields" : desc.special === "value" ? "value" : "values"]: json };
}

function takesNull(field: FieldDesc): boolean {
  return (field.type === "message" && field.special === "value") || (field.type === "enum" && field.typeName === "google.protobuf.NullValue");
}

function jsonNode(json: JsonValue): SyntaxNode {
  const at = { start: 0, end: 0 };
  if (json === null) return { kind: "scalar", ...at, type: "null", text: "" };
  switch (typeof json) {
    case "boolean":
      return { kind: "scalar", ...at, type: "bool", text: String(json) };
    case "number":
      return { kind: "scalar", ...at, type: Number.isInteger(json) ? "int" : "float", text: String(json) };
    case "string":
      return { kind: "scalar", ...at, type: "string", text: json };
    default:
      if (Array.isArray(json)) return { kind: "list", ...at, items: json.map(jsonNode) };
      return { kind: "map", ...at, entries: Object.entries(json).map(([key, value]) => ({ key, keyStart: 0, keyEnd: 0, value: jsonNode(value) })) };
  }
}

function textOf(node: ScalarNode): string {
  return node.text;
}

function latin1ToUtf8(text: string): string {
  return /^[\x00-\x7f]*$/.test(text) ? text : Buffer.from(text, "latin1").toString("utf8");
}

/** A text in quotes for a message, cut where it is long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}

function describe(node: SyntaxNode): string {
  if (node.kind === "map") return "a map";
  if (node.kind === "list") return "a list";
  switch (node.type) {
    case "null":
      return "nothing";
    case "bool":
      return `the bool ${node.text}`;
    case "int":
    case "float":
      return `the number ${node.text}`;
    default:
      return `the text ${quote(node.text)}`;
  }
}

function scalarName(field: FieldDesc): string {
  switch (field.type) {
    case "string":
      return "a string";
    case "bytes":
      return "bytes as base64 text";
    case "bool":
      return "true or false";
    case "enum":
      return "an enum name";
    case "double":
    case "float":
      return "a number";
    default:
      return "a whole number";
  }
}

function article(name: string): string {
  return `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`;
}

function suggestDuration(text: string): string | undefined {
  const match = /^(-?\d+(?:\.\d+)?) ?(ms|milliseconds?|us|m|min|minutes?|h|hours?|s|secs?|seconds?)?$/i.exec(text);
  if (match === null) return undefined;
  const unit = (match[2] ?? "s").toLowerCase();
  const factor =
    unit.startsWith("ms") || unit.startsWith("milli") ? 0.001 : unit === "us" ? 0.000001 : unit.startsWith("m") ? 60 : unit.startsWith("h") ? 3600 : 1;
  return `${Number((Number(match[1]) * factor).toFixed(9))}s`;
}
