/** Operators that read metadata and filter state. */
import type { JsonObject, JsonValue } from "../../config/message.ts";
import type { FilterStateObject } from "../../http/stream-info.ts";
import type { FormatContext, Operator } from "../formatter.ts";
import { FormatError, type OperatorRow, type OperatorTable, toBytes, truncate } from "./operator.ts";

type Metadata = Readonly<Record<string, JsonObject>>;
type ReadMetadata = (context: FormatContext) => Metadata | undefined;

/** A value deep inside a namespace's struct; undefined where a step leads nowhere. */
function lookup(metadata: Metadata | undefined, namespace: string, path: readonly string[]): JsonValue | undefined {
  if (metadata === undefined || !Object.hasOwn(metadata, namespace)) return undefined;
  let value: JsonValue = metadata[namespace];
  for (const key of path) {
    if (value === null || typeof value !== "object" || Array.isArray(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** Keys in order, as Envoy prints structs. */
function sorted(value: JsonValue): JsonValue {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}

/** Strings as they are, everything else as JSON. */
function jsonText(value: JsonValue): string {
  return toBytes(typeof value === "string" ? value : JSON.stringify(sorted(value)));
}

export function metadataOperator(read: ReadMetadata, namespace: string, path: readonly string[], maxLength: number | undefined): Operator {
  const find = (context: FormatContext): JsonValue | undefined => lookup(read(context), namespace, path) ?? undefined;
  return {
    text(context) {
      const value = find(context);
      return value === undefined ? undefined : truncate(jsonText(value), maxLength);
    },
    json(context) {
      const value = find(context);
      return typeof value === "string" ? truncate(toBytes(value), maxLength) : value;
    },
  };
}

function metadata(read: ReadMetadata): OperatorRow {
  return {
    parameters: "required",
    length: true,
    make(argument, maxLength) {
      const [namespace, ...path] = argument.split(":");
      return metadataOperator(read, namespace, path, maxLength);
    },
  };
}

const dynamic: ReadMetadata = ({ info }) => (info.hasDynamicMetadata ? info.dynamicMetadata : undefined);
const cluster: ReadMetadata = ({ info }) => info.cluster?.metadata;
const upstreamHost: ReadMetadata = ({ info }) => info.upstream?.host?.metadata;

/** The kinds that %METADATA(KIND:...)% knows. */
export const metadataKinds: Readonly<Record<string, ReadMetadata>> = {
  DYNAMIC: dynamic,
  CLUSTER: cluster,
  ROUTE: ({ info }) => info.route?.metadata,
  VIRTUAL_HOST: ({ info }) => info.route?.virtualHost.metadata,
  UPSTREAM_HOST: upstreamHost,
  LISTENER: ({ info }) => info.listenerMetadata as Metadata | undefined,
  LISTENER_FILTER_CHAIN: ({ info }) => info.filterChainMetadata as Metadata | undefined,
};

function filterState(read: (context: FormatContext, key: string) => FilterStateObject | undefined): OperatorRow {
  return {
    parameters: "optional",
    length: true,
    make(argument, maxLength): Operator {
      const [key, form = "TYPED", field] = argument.split(":");
      if (key === "") throw new FormatError("Invalid filter state configuration, key cannot be empty.");
      if (form !== "PLAIN" && form !== "TYPED" && form !== "FIELD")
        throw new FormatError("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.");
      if ((form === "FIELD") !== (field !== undefined && field !== ""))
        throw new FormatError("Invalid filter state serialize type, FIELD should be used with the field name.");
      if (form === "PLAIN") {
        return {
          text(context) {
            const value = read(context, key)?.serializeAsString();
            return value === undefined ? undefined : truncate(value, maxLength);
          },
        };
      }
      if (form === "FIELD") {
        const find = (context: FormatContext): string | number | undefined => read(context, key)?.field?.(field);
        return {
          text(context) {
            const value = find(context);
            return value === undefined ? undefined : truncate(String(value), maxLength);
          },
        };
      }
      return {
        text(context) {
          const value = read(context, key)?.serializeAsJson?.();
          return value === undefined ? undefined : truncate(toBytes(JSON.stringify(value)), maxLength);
        },
        json: (context) => read(context, key)?.serializeAsJson?.(),
      };
    },
  };
}

export const metadataOperators: OperatorTable = {
  DYNAMIC_METADATA: metadata(dynamic),
  CLUSTER_METADATA: metadata(cluster),
  UPSTREAM_METADATA: metadata(upstreamHost),
  METADATA: {
    parameters: "optional",
    length: true,
    make(argument, maxLength) {
      const [kind, namespace = "", ...path] = argument.split(":");
      if (!Object.hasOwn(metadataKinds, kind)) throw new FormatError(`${kind} is not supported type of metadata`);
      return metadataOperator(metadataKinds[kind], namespace, path, maxLength);
    },
  },
  FILTER_STATE: filterState(({ info }, key) => info.getFilterState(key)),
  UPSTREAM_FILTER_STATE: filterState(({ info }, key) => info.upstream?.filterState?.get(key)),
};
