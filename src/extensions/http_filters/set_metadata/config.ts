/** envoy.filters.http.set_metadata: gives each request the same dynamic metadata. */
import { type AnyMessage, isMessage, type JsonObject, type JsonValue } from "../../../config/message.ts";
import type { Config } from "../../../config/schema/types/envoy.extensions.filters.http.set_metadata.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { Extension } from "../../extension.ts";

const pkg = "envoy.extensions.filters.http.set_metadata.v3.";
const typeName = `${pkg}Config`;

interface Entry {
  readonly namespace: string;
  readonly value: JsonObject;
  readonly overwrites: boolean;
}

/** Values of one kind are merged: objects key by key, lists one behind the other. */
export function updateStruct(object: JsonObject, with_: JsonObject): JsonObject {
  const result: JsonObject = { ...object };
  for (const [key, value] of Object.entries(with_)) {
    const before = result[key];
    result[key] = merged(before, value);
  }
  return result;
}

function merged(before: JsonValue | undefined, value: JsonValue): JsonValue {
  if (Array.isArray(before) && Array.isArray(value)) return [...before, ...value];
  const isObject = (one: JsonValue | undefined): one is JsonObject => typeof one === "object" && one !== null && !Array.isArray(one);
  return isObject(before) && isObject(value) ? updateStruct(before, value) : value;
}

class SetMetadataFilter implements HttpFilter {
  readonly #entries: readonly Entry[];
  readonly #denied: Counter;
  #callbacks!: DecoderFilterCallbacks;

  constructor(entries: readonly Entry[], denied: Counter) {
    this.#entries = entries;
    this.#denied = denied;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(): FilterHeadersStatus {
    const metadata = this.#callbacks.streamInfo.dynamicMetadata;
    for (const { namespace, value, overwrites } of this.#entries) {
      const before = metadata[namespace];
      if (before === undefined) metadata[namespace] = value;
      else if (overwrites) metadata[namespace] = updateStruct(before, value);
      else this.#denied.inc();
    }
    return "continue";
  }
}

export default {
  honours: {
    [typeName]: "*",
    // typed_value: metadata of a type has no reader here.
    [`${pkg}Metadata`]: ["metadata_namespace", "allow_overwrite", "value"],
  },
  httpFilter: {
    compile(message: AnyMessage, _context, { scope }) {
      if (!isMessage<Config>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const entries: Entry[] = message.metadata.map(({ metadataNamespace, value = {}, allowOverwrite }) => ({
        namespace: metadataNamespace,
        value,
        overwrites: allowOverwrite,
      }));
      // The older form.
      if (message.value !== undefined) entries.push({ namespace: message.metadataNamespace, value: message.value, overwrites: true });
      const denied = scope.counter("set_metadata.overwrite_denied");
      return () => new SetMetadataFilter(entries, denied);
    },
  },
} satisfies Extension;
