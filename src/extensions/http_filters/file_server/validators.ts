/**
 * ETag and Last-Modified, and the conditions that clients send back (RFC 9110 section 13). Envoy's file server sends neither; only
 * validators that were made here are honoured, so whoever sends others gets what Envoy would send.
 */
import type { RequestHeaders } from "../../../http/header-map.ts";

export interface Validators {
  readonly etag: string;
  readonly lastModified: string;
}

export function validatorsOf(stats: { readonly mtimeMs: number; readonly size: number }): Validators {
  return { etag: `"${Math.floor(stats.mtimeMs * 1000).toString(16)}-${stats.size.toString(16)}"`, lastModified: new Date(stats.mtimeMs).toUTCString() };
}

/** Whether the client has this very file: If-None-Match counts alone where it is sent (RFC 9110 section 13.2.2). */
export function isNotModified(headers: RequestHeaders, validators: Validators): boolean {
  const tags = headers.getAll("if-none-match");
  if (tags.length > 0) return tags.some((field) => field.split(",").some((tag) => tag.trim().replace(/^W\//, "") === validators.etag));
  return headers.get("if-modified-since") === validators.lastModified;
}

/** Whether a range still belongs to the file the client has part of (RFC 9110 section 13.1.5). */
export function rangeApplies(headers: RequestHeaders, validators: Validators): boolean {
  const condition = headers.get("if-range");
  return condition === undefined || condition === validators.etag || condition === validators.lastModified;
}
