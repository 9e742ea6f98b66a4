/** envoy.filters.http.file_server: answers GET and HEAD with files. One object per stream; files are read in pieces at the pace of the client. */
import { constants, type Stats } from "node:fs";
import type { DecoderFilterCallbacks, DownstreamWatermarkCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import { type RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import type { AsyncFiles } from "./async-files.ts";
import { applyMapping, contentTypeKey, decodePath, findMapping, type PathMapping } from "./path-mapping.ts";
import { type ByteRange, parseRange, resolveRange } from "./range.ts";
import { isNotModified, rangeApplies, validatorsOf } from "./validators.ts";

export interface FileServerSettings {
  readonly files: AsyncFiles;
  /** Longest request prefix first. */
  readonly mappings: readonly PathMapping[];
  readonly contentTypes: ReadonlyMap<string, string>;
  /** "" sends no content-type. */
  readonly defaultContentType: string;
  /** Tried in order for a directory: the name of a file in it, or undefined for a listing. */
  readonly directoryBehaviors: readonly (string | undefined)[];
}

/** Read and handed on at a time. */
const chunkBytes = 64 * 1024;
/** Never wait for the other end of a named pipe. */
const openFlags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

const reasons: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  416: "Range Not Satisfiable",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** The HTTP status of a system error. */
const statuses: Readonly<Record<string, number>> = {
  ENOENT: 404,
  ENODEV: 404,
  ENXIO: 404,
  EACCES: 403,
  EPERM: 403,
  EROFS: 403,
  ENOTDIR: 400,
  EISDIR: 400,
  EINVAL: 400,
  ENAMETOOLONG: 400,
  EBADF: 400,
  ELOOP: 400,
  EBUSY: 400,
  ETXTBSY: 400,
  EEXIST: 409,
  ESTALE: 409,
  EDEADLK: 409,
  EMFILE: 429,
  ENFILE: 429,
  ENOMEM: 429,
  ENOSPC: 429,
  ENOBUFS: 429,
  EFBIG: 416,
  EOVERFLOW: 416,
  ERANGE: 416,
  ENOSYS: 503,
  ENOTSUP: 503,
  EOPNOTSUPP: 503,
  ETIMEDOUT: 504,
};
const statusOf = (error: NodeJS.ErrnoException): number => statuses[error.code ?? ""] ?? 500;

/** Errors that the path itself has, whatever the file: Envoy meets them at stat, before it opens. */
const pathErrors: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP"]);

export class FileServerFilter implements HttpFilter, DownstreamWatermarkCallbacks {
  #settings: FileServerSettings;
  #callbacks: DecoderFilterCallbacks | undefined = undefined;
  #requestHeaders: RequestHeaders | undefined = undefined;
  #path = "";
  #range: ByteRange = { start: 0, end: 0 };
  #isHead = false;
  #fd = -1;
  #position = 0;
  #end = 0;
  #headersSent = false;
  #destroyed = false;
  /** How often the client has said that it cannot take more. */
  #paused = 0;
  #reading = false;

  constructor(settings: FileServerSettings) {
    this.#settings = settings;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
    callbacks.addDownstreamWatermarkCallbacks(this);
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const callbacks = this.#callbacks;
    if (callbacks === undefined || headers.path === undefined || callbacks.route() === undefined) return "continue";
    this.#settings = callbacks.routeConfig<FileServerSettings>() ?? this.#settings;
    const path = decodePath(headers.path);
    const mapping = findMapping(this.#settings.mappings, path);
    if (mapping === undefined) return "continue";
    const file = applyMapping(path, mapping);
    if (file === undefined) return this.#refuse(400, "file_server_rejected_non_normalized_path");
    if (headers.method !== "GET" && headers.method !== "HEAD") return this.#refuse(405, "file_server_rejected_method");
    // A GET with a body is refused, as by Envoy.
    if (!endStream) return this.#refuse(400, "file_server_rejected_not_end_stream");
    this.#isHead = headers.method === "HEAD";
    this.#range = parseRange(headers.getAll("range"));
    this.#requestHeaders = headers;
    this.#path = file;
    this.#open(file, (error) => this.#fail(statusOf(error), pathErrors.has(error.code ?? "") ? "file_server_stat_error" : "file_server_open_error"));
    return "stop";
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#paused++;
  }

  onBelowWriteBufferLowWatermark(): void {
    if (this.#paused > 0) this.#paused--;
    this.#readOn();
  }

  onDestroy(): void {
    this.#destroyed = true;
    this.#callbacks?.removeDownstreamWatermarkCallbacks(this);
    // A read under way still needs the descriptor: its end closes it.
    if (!this.#reading) this.#close();
  }

  #refuse(status: number, details: string): FilterHeadersStatus {
    this.#fail(status, details);
    return "stop";
  }

  #fail(status: number, details: string): void {
    this.#close();
    const callbacks = this.#callbacks;
    if (callbacks === undefined || this.#destroyed) return;
    if (!this.#headersSent) callbacks.sendLocalReply({ status, body: reasons[status] ?? "", details });
    else {
      callbacks.streamInfo.responseCodeDetails = details;
      callbacks.resetStream("local_reset");
    }
  }

  #close(): void {
    if (this.#fd < 0) return;
    this.#settings.files.close(this.#fd);
    this.#fd = -1;
  }

  #open(path: string, onError: (error: NodeJS.ErrnoException) => void): void {
    const { files } = this.#settings;
    files.open(Buffer.from(path, "latin1"), openFlags, (error, fd) => {
      if (this.#destroyed) {
        if (error === null) files.close(fd);
        return;
      }
      if (error !== null) {
        onError(error);
        return;
      }
      this.#fd = fd;
      files.stat(fd, (statError, stats) => {
        if (this.#destroyed) this.#close();
        else if (statError !== null) this.#fail(statusOf(statError), "file_server_opened_file_stat_failed");
        else if (stats.isDirectory()) {
          this.#close();
          if (path === this.#path) this.#openDirectory(0);
          else onError(Object.assign(new Error("it is a directory"), { code: "EISDIR" }));
        } else if (!stats.isFile()) this.#fail(403, "file_server_open_error");
        else {
          this.#path = path;
          this.#begin(stats);
        }
      });
    });
  }

  #openDirectory(index: number): void {
    const { directoryBehaviors } = this.#settings;
    const name = directoryBehaviors[index];
    if (index >= directoryBehaviors.length) this.#fail(403, "file_server_no_valid_directory_behavior");
    // Envoy's API has a listing, its file server has not: the answer is the same as there.
    else if (name === undefined) this.#fail(403, "file_server_list_not_implemented");
    else this.#open(this.#path.endsWith("/") ? this.#path + name : `${this.#path}/${name}`, () => this.#openDirectory(index + 1));
  }

  #begin(stats: Stats): void {
    const request = this.#requestHeaders;
    const callbacks = this.#callbacks;
    if (request === undefined || callbacks === undefined) return;
    const validators = validatorsOf(stats);
    if (isNotModified(request, validators)) {
      this.#close();
      this.#headersSent = true;
      callbacks.encodeHeaders(
        new ResponseHeaders(304, ["accept-ranges", "bytes", "etag", validators.etag, "last-modified", validators.lastModified]),
        true,
        "file_server",
      );
      return;
    }
    const asked = rangeApplies(request, validators) ? this.#range : { start: 0, end: 0 };
    const range = resolveRange(asked, stats.size);
    if (range === undefined) {
      this.#fail(416, "file_server_range_not_satisfiable");
      return;
    }
    this.#position = range.start;
    this.#end = range.end;
    const isPartial = asked.start !== 0 || asked.end !== 0;
    const list = ["accept-ranges", "bytes", "content-length", String(range.end - range.start)];
    if (isPartial) list.push("content-range", `bytes ${range.start}-${range.end - 1}/${stats.size}`);
    const contentType = this.#settings.contentTypes.get(contentTypeKey(this.#path)) ?? this.#settings.defaultContentType;
    if (contentType !== "") list.push("content-type", contentType);
    list.push("etag", validators.etag, "last-modified", validators.lastModified);
    const withoutBody = this.#isHead || range.end === range.start;
    if (withoutBody) this.#close();
    this.#headersSent = true;
    callbacks.encodeHeaders(new ResponseHeaders(isPartial ? 206 : 200, list), withoutBody, "file_server");
    if (!withoutBody) this.#readOn();
  }

  #readOn(): void {
    if (this.#fd < 0 || this.#paused > 0 || this.#reading || this.#destroyed || !this.#headersSent) return;
    const length = Math.min(chunkBytes, this.#end - this.#position);
    const buffer = Buffer.allocUnsafe(length);
    this.#reading = true;
    this.#settings.files.read(this.#fd, buffer, length, this.#position, (error, bytes) => {
      this.#reading = false;
      if (this.#destroyed) {
        this.#close();
        return;
      }
      // Nothing to read: the file has become shorter than was promised.
      if (error !== null || bytes === 0) {
        this.#fail(error === null ? 500 : statusOf(error), "file_server_read_operation_failed");
        return;
      }
      this.#position += bytes;
      const isLast = this.#position === this.#end;
      if (isLast) this.#close();
      this.#callbacks?.encodeData(bytes === length ? buffer : buffer.subarray(0, bytes), isLast);
      if (!isLast) this.#readOn();
    });
  }
}
