/** What an admin endpoint is given and what it answers. */
import type { QueryParams } from "./query.ts";
import type { AdminServer } from "./server.ts";

export interface AdminRequest {
  readonly server: AdminServer;
  readonly method: string;
  /** Without query and fragment. */
  readonly path: string;
  /** Of the query, or of the form body where there is no query. */
  readonly params: QueryParams;
}

/** Pieces are sent as they are asked for: a slow reader holds the iterator back, not memory. */
export type AdminBody = string | Buffer | Iterable<string | Buffer> | AsyncIterable<string | Buffer>;

export interface AdminResponse {
  readonly status: number;
  /** text/plain; charset=UTF-8 when absent. */
  readonly contentType?: string;
  readonly body: AdminBody;
  /** Fields besides those that every answer has. */
  readonly headers?: readonly (readonly [name: string, value: string])[];
  /** Runs when the answer has been handed to the connection, or the client has gone. */
  readonly after?: () => void;
}

export type AdminHandler = (request: AdminRequest) => AdminResponse | Promise<AdminResponse>;

/** A parameter as /help and the home page describe it. */
export interface AdminParam {
  readonly kind: "boolean" | "string" | "enum";
  readonly id: string;
  readonly help: string;
  readonly options?: readonly string[];
}

export interface AdminEndpoint {
  readonly path: string;
  readonly help: string;
  /** Only POST may reach it, and no foreign web page. */
  readonly mutates?: true;
  readonly params?: readonly AdminParam[];
  readonly handle: AdminHandler;
}

export const textPlain = "text/plain; charset=UTF-8";
export const applicationJson = "application/json";
export const textHtml = "text/html; charset=UTF-8";

export function text(body: AdminBody, status = 200): AdminResponse {
  return { status, body };
}

export function json(value: unknown, status = 200): AdminResponse {
  return { status, contentType: applicationJson, body: `${prettyJson(value)}\n` };
}

/** As protobuf prints JSON for people: one space a level. */
export function prettyJson(value: unknown): string {
  return JSON.stringify(value, null, 1);
}

export const ok = text("OK\n");
