/**
 * The admin interface's terminal filter: finds the endpoint of a request, checks that the request may reach it, sends what it answers.
 * Bodies leave in pieces of bounded size, and only while the client reads.
 */
import type {
  DecoderFilterCallbacks,
  DownstreamWatermarkCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
  HttpFilterFactory,
} from "../http/filter.ts";
import { type RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import { getLogger } from "../log/log.ts";
import type { StringMatcher } from "../matching/string-matcher.ts";
import { endpointByPath, helpText } from "./endpoints.ts";
import { QueryParams, splitPath } from "./query.ts";
import { type AdminEndpoint, type AdminResponse, text, textPlain } from "./request.ts";
import { hostOf, refuseMutation } from "./security.ts";
import type { AdminServer } from "./server.ts";

const log = getLogger("admin");

/** A request body is a form of a few parameters: more than this is refused. */
const maxBodyBytes = 256 * 1024;
/** Pieces of answers are gathered up to this size before they are sent. */
const pieceBytes = 64 * 1024;

/** `allowed`: all that may be asked for, path and query (bootstrap.admin.allow_paths); undefined: everything. */
export function createAdminHttpFilterFactory(server: AdminServer | undefined, allowed?: StringMatcher): HttpFilterFactory {
  return () => new AdminFilter(server, allowed);
}

class AdminFilter implements HttpFilter, DownstreamWatermarkCallbacks {
  readonly #server: AdminServer | undefined;
  readonly #allowed: StringMatcher | undefined;
  #callbacks!: DecoderFilterCallbacks;
  #headers: RequestHeaders | undefined;
  #body: Buffer[] = [];
  #bodyBytes = 0;
  #pieces: Iterator<string | Buffer> | AsyncIterator<string | Buffer> | undefined;
  #after: (() => void) | undefined;
  /** How many of the connection's buffers are above their mark. */
  #above = 0;
  #pumping = false;
  #answered = false;
  #gone = false;

  constructor(server: AdminServer | undefined, allowed: StringMatcher | undefined) {
    this.#server = server;
    this.#allowed = allowed;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    this.#headers = headers;
    if (endStream) this.#onRequest();
    return "stop";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#answered) return "stop_no_buffer";
    this.#bodyBytes += data.length;
    if (this.#bodyBytes > maxBodyBytes) {
      this.#answered = true;
      this.#callbacks.sendLocalReply({ status: 413, body: "Payload Too Large", details: "request_payload_too_large" });
      return "stop_no_buffer";
    }
    if (data.length > 0) this.#body.push(Buffer.from(data));
    if (endStream) this.#onRequest();
    return "stop_no_buffer";
  }

  decodeTrailers(): FilterTrailersStatus {
    if (!this.#answered) this.#onRequest();
    return "stop";
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#above++;
  }

  onBelowWriteBufferLowWatermark(): void {
    if (this.#above > 0) this.#above--;
    if (this.#above === 0) this.#resume();
  }

  onDestroy(): void {
    this.#gone = true;
    this.#finish();
  }

  #onRequest(): void {
    this.#answered = true;
    const headers = this.#headers as RequestHeaders;
    let answer: AdminResponse | Promise<AdminResponse>;
    try {
      answer = this.#handle(headers);
    } catch (error) {
      answer = this.#failed(error);
    }
    if (answer instanceof Promise) {
      answer.then(
        (response) => this.#respond(response),
        (error: unknown) => this.#respond(this.#failed(error)),
      );
    } else this.#respond(answer);
  }

  #failed(error: unknown): AdminResponse {
    log.error(`admin request ${this.#headers?.method} ${this.#headers?.path}: ${error instanceof Error ? error.stack : String(error)}`);
    return text("internal error, see the log\n", 500);
  }

  #handle(headers: RequestHeaders): AdminResponse | Promise<AdminResponse> {
    const server = this.#server;
    if (server === undefined) return text("the admin interface is not connected to a server\n", 503);
    if (this.#allowed?.matches(headers.path ?? "") === false) {
      log.info(`admin path "${headers.path}" is not allowed`);
      return text(`request to path ${headers.path} not allowed`, 403);
    }
    const { path, query } = splitPath(headers.path ?? "/");
    const endpoint = endpointByPath(path);
    if (endpoint === undefined) return text(`invalid path. ${helpText()}`, 404);
    const refused = this.#refuse(endpoint, headers, server);
    if (refused !== undefined) return refused;
    if (log.debugEnabled) log.debug(`request complete: path: ${headers.path}`);
    return endpoint.handle({ server, method: headers.method, path, params: this.#params(headers, query) });
  }

  #refuse(endpoint: AdminEndpoint, headers: RequestHeaders, server: AdminServer): AdminResponse | undefined {
    if (endpoint.mutates !== true) return undefined;
    if (headers.method !== "POST") {
      log.error(`admin path "${endpoint.path}" mutates state, method=${headers.method} rather than POST`);
      return text(`Method ${headers.method} not allowed, POST required.`, 405);
    }
    const why = refuseMutation(headers, server.adminAddress === undefined ? undefined : hostOf(server.adminAddress));
    if (why === undefined) return undefined;
    log.warning(`admin path "${endpoint.path}": ${why.trimEnd()}`);
    return text(why, 403);
  }

  /** A query wins over a form. */
  #params(headers: RequestHeaders, query: string): QueryParams {
    const contentType = (headers.get("content-type") ?? "").split(";", 1)[0].trim().toLowerCase();
    if (query !== "" || contentType !== "application/x-www-form-urlencoded") return QueryParams.parse(query);
    return QueryParams.parse(Buffer.concat(this.#body).toString("latin1"));
  }

  #respond(response: AdminResponse): void {
    if (this.#gone) {
      response.after?.();
      return;
    }
    this.#body = [];
    this.#after = response.after;
    const fields = ["content-type", response.contentType ?? textPlain, "cache-control", "no-cache, max-age=0", "x-content-type-options", "nosniff"];
    for (const [name, value] of response.headers ?? []) fields.push(name, value);
    const headers = new ResponseHeaders(response.status, fields);
    const body = response.body;
    if (this.#headers?.method === "HEAD" || body === "") {
      this.#callbacks.encodeHeaders(headers, true, "admin_filter_response");
      this.#finish();
      return;
    }
    this.#callbacks.addDownstreamWatermarkCallbacks(this);
    this.#callbacks.encodeHeaders(headers, false, "admin_filter_response");
    if (this.#gone) return;
    if (typeof body === "string" || Buffer.isBuffer(body)) this.#pieces = slices(typeof body === "string" ? Buffer.from(body) : body);
    else this.#pieces = Symbol.asyncIterator in body ? body[Symbol.asyncIterator]() : body[Symbol.iterator]();
    this.#resume();
  }

  #resume(): void {
    if (this.#pumping || this.#pieces === undefined || this.#gone) return;
    this.#pumping = true;
    void this.#pump().catch((error: unknown) => {
      this.#failed(error);
      if (!this.#gone) this.#callbacks.resetStream();
    });
  }

  async #pump(): Promise<void> {
    let gathered: Buffer[] = [];
    let bytes = 0;
    const pieces = this.#pieces as Iterator<string | Buffer> | AsyncIterator<string | Buffer>;
    while (!this.#gone) {
      if (this.#above > 0) {
        if (bytes > 0) this.#send(gathered);
        this.#pumping = false;
        return;
      }
      let next = pieces.next();
      // Only what really is asynchronous is waited for: the usual small answer leaves at once.
      if (next instanceof Promise) next = await next;
      if (this.#gone) break;
      if (next.done === true) {
        this.#pieces = undefined;
        this.#callbacks.encodeData(gathered.length === 1 ? gathered[0] : Buffer.concat(gathered), true);
        this.#finish();
        return;
      }
      const piece = typeof next.value === "string" ? Buffer.from(next.value) : next.value;
      gathered.push(piece);
      bytes += piece.length;
      if (bytes < pieceBytes) continue;
      this.#send(gathered);
      gathered = [];
      bytes = 0;
      // Long answers let others have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#pumping = false;
  }

  #send(gathered: readonly Buffer[]): void {
    this.#callbacks.encodeData(gathered.length === 1 ? gathered[0] : Buffer.concat(gathered), false);
  }

  /** Once: the answer is out, or nobody is there to take it. */
  #finish(): void {
    const pieces = this.#pieces;
    this.#pieces = undefined;
    if (pieces?.return !== undefined) void pieces.return();
    const after = this.#after;
    this.#after = undefined;
    after?.();
  }
}

function* slices(whole: Buffer): Generator<Buffer> {
  for (let at = 0; at < whole.length; at += pieceBytes) yield whole.subarray(at, at + pieceBytes);
}
