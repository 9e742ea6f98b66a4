/**
 * The Envoy 1.40 API as data: every message and enum by its full name.
 *
 * The file is a serialized FileDescriptorSet (made by scripts/schema/extract-descriptors.ts). Opening it reads only the names of top-level
 * messages and enums (3 ms for 532 files); a descriptor is decoded when it is first asked for.
 */
import { readFileSync } from "node:fs";
import { decodeMessage } from "../binary.ts";
import { type DescriptorSource, EnumDesc, type FieldRules, MessageDesc, nameOf } from "./descriptor.ts";
import { WireReader } from "./wire.ts";

interface Place {
  readonly start: number;
  readonly end: number;
  readonly proto2: boolean;
}

export class Schema implements DescriptorSource {
  readonly #bytes: Uint8Array;
  readonly #messagePlaces = new Map<string, Place>();
  readonly #enumPlaces = new Map<string, Place>();
  readonly #messages = new Map<string, MessageDesc>();
  readonly #enums = new Map<string, EnumDesc>();

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    const set = new WireReader(bytes);
    while (!set.done) {
      const tag = set.uint32();
      if (tag === 0x0a) this.#indexFile(set.sub());
      else set.skip(tag & 7);
    }
  }

  #indexFile(file: WireReader): void {
    let prefix = "";
    let proto2 = true;
    const messages: { start: number; end: number }[] = [];
    const enums: { start: number; end: number }[] = [];
    while (!file.done) {
      const tag = file.uint32();
      if (tag === 0x12) prefix = `${file.ascii()}.`;
      else if (tag === 0x22) messages.push(file.range());
      else if (tag === 0x2a) enums.push(file.range());
      else if (tag === 0x62) proto2 = file.ascii() === "proto2";
      else file.skip(tag & 7);
    }
    for (const { start, end } of messages) this.#messagePlaces.set(prefix + nameOf(new WireReader(this.#bytes, start, end)), { start, end, proto2 });
    for (const { start, end } of enums) this.#enumPlaces.set(prefix + nameOf(new WireReader(this.#bytes, start, end)), { start, end, proto2 });
  }

  message(typeName: string): MessageDesc | undefined {
    let desc = this.#messages.get(typeName);
    if (desc !== undefined) return desc;
    const place = this.#messagePlaces.get(typeName);
    if (place !== undefined) desc = new MessageDesc(typeName, new WireReader(this.#bytes, place.start, place.end), place.proto2, this);
    else {
      const dot = typeName.lastIndexOf(".");
      const parent = dot > 0 ? this.message(typeName.slice(0, dot)) : undefined;
      const reader = parent?.nestedMessage(typeName.slice(dot + 1));
      if (parent !== undefined && reader !== undefined) desc = new MessageDesc(typeName, reader, parent.proto2, this);
    }
    // Names that exist nowhere are not remembered: they come from input and would grow without bound.
    if (desc !== undefined) this.#messages.set(typeName, desc);
    return desc;
  }

  enumeration(typeName: string): EnumDesc | undefined {
    let desc = this.#enums.get(typeName);
    if (desc !== undefined) return desc;
    const place = this.#enumPlaces.get(typeName);
    if (place !== undefined) desc = new EnumDesc(typeName, new WireReader(this.#bytes, place.start, place.end));
    else {
      const dot = typeName.lastIndexOf(".");
      const reader = dot > 0 ? this.message(typeName.slice(0, dot))?.nestedEnum(typeName.slice(dot + 1)) : undefined;
      if (reader !== undefined) desc = new EnumDesc(typeName, reader);
    }
    if (desc !== undefined) this.#enums.set(typeName, desc);
    return desc;
  }

  rules(bytes: Uint8Array): FieldRules {
    return decodeMessage(this.message("validate.FieldRules")!, bytes, undefined) as unknown as FieldRules;
  }

  /** Full names of all top-level messages. */
  messageNames(): IterableIterator<string> {
    return this.#messagePlaces.keys();
  }
}

let opened: Schema | undefined;

/** The API this version of Outrider speaks. Opened once a thread, on first use. */
export function envoySchema(): Schema {
  return (opened ??= new Schema(readFileSync(new URL("envoy-1.40.descriptors.binpb", import.meta.url))));
}
