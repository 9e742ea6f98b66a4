import { appendField, dropField, fieldEntries, writeField } from "../../http/field-writing.ts";
import type { HeaderMap } from "../../http/header-map.ts";
import type { FieldMap } from "./context.ts";

/** A head as modules read and write it. */
export class HeadFields implements FieldMap {
  readonly #map: HeaderMap;
  constructor(map: HeaderMap) {
    this.#map = map;
  }
  entries(): string[] {
    return fieldEntries(this.#map);
  }
  get(name: string): string | undefined {
    return this.#map.get(name);
  }
  set(name: string, value: string): boolean {
    return writeField(this.#map, name, value);
  }
  add(name: string, value: string): boolean {
    return appendField(this.#map, name, value);
  }
  remove(name: string): void {
    dropField(this.#map, name);
  }
  replaceAll(pairs: readonly string[]): void {
    for (const name of new Set(this.entries().filter((_text, index) => index % 2 === 0))) dropField(this.#map, name);
    for (let i = 0; i < pairs.length; i += 2) appendField(this.#map, pairs[i].toLowerCase(), pairs[i + 1]);
  }
}
