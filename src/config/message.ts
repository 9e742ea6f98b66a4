/**
 * The shape of a loaded configuration message.
 *
 * It is the shape of `@bufbuild/protobuf` messages (camelCase fields, `{case, value}` for a oneof, `$typeName`, wrappers
 * unwrapped, enums as numbers, 64-bit integers as bigint), with these differences, which the loader makes for YAML, JSON,
 * text and binary input alike:
 *  - a `google.protobuf.Any` is unpacked in place: an `AnyMessage` *is* the message inside, told by its `$typeName`;
 *    (a TypedStruct inside an Any is resolved to the message it names, when that is known);
 *  - `google.protobuf.Value`/`ListValue`/`Struct` are plain JSON.
 * Messages are plain data: they survive structuredClone, which is how workers get them.
 */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };
export type JsonObject = { [key: string]: JsonValue };

/** The message that a `google.protobuf.Any` held. Narrow it by `$typeName`, or with `isMessage`. */
export interface AnyMessage {
  $typeName: string;
}
/** A message of a package that the generated types leave out (google.api, validate, ...). */
export interface OpaqueMessage {
  $typeName: string;
}
export interface Empty {
  $typeName: "google.protobuf.Empty";
}
export interface Duration {
  $typeName: "google.protobuf.Duration";
  seconds: bigint;
  nanos: number;
}
export interface Timestamp {
  $typeName: "google.protobuf.Timestamp";
  seconds: bigint;
  nanos: number;
}

/** A duration in milliseconds (fractions kept), or `fallback` where the field is unset. */
export function durationMs(d: Duration | undefined, fallback: number): number;
export function durationMs(d: Duration | undefined): number | undefined;
export function durationMs(d: Duration | undefined, fallback?: number): number | undefined {
  return d === undefined ? fallback : Number(d.seconds) * 1000 + d.nanos / 1e6;
}

/** Whether an unpacked Any holds a message of this type. */
export function isMessage<T extends { $typeName: string }>(message: AnyMessage | undefined, typeName: T["$typeName"]): message is T {
  return message?.$typeName === typeName;
}
