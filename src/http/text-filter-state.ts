import type { FilterStateObject } from "./stream-info.ts";

/** Filter state that is a text: what Envoy's string accessors and the factories that take text make. */
export class TextFilterState implements FilterStateObject {
  readonly value: string;
  constructor(value: string) {
    this.value = value;
  }
  serializeAsString(): string {
    return this.value;
  }
  serializeAsJson(): string {
    return this.value;
  }
}
