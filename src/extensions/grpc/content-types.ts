import type { RequestHeaders } from "../../http/header-map.ts";

/** "application/grpc", alone or with a message format behind it. */
export function isGrpcContentType(value: string | undefined): boolean {
  return value !== undefined && /^application\/grpc(?:[+;]|$)/.test(value);
}

/** A call has a method, which is its path. */
export function isGrpcRequest(headers: RequestHeaders): boolean {
  return headers.path !== undefined && isGrpcContentType(headers.get("content-type"));
}

export function isProtobufRequest(headers: RequestHeaders): boolean {
  return headers.path !== undefined && headers.get("content-type") === "application/x-protobuf";
}
