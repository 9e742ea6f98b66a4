/** Operators that read header fields, the path and the query. */
import type { HeaderMap } from "../../http/header-map.ts";
import type { FormatContext, Operator } from "../formatter.ts";
import { FormatError, number, type OperatorRow, type OperatorTable, truncate } from "./operator.ts";

/** RFC 9110 field name characters, and ":" in front for pseudo-headers. */
const fieldName = /^:?[A-Za-z0-9!#$%&'*+.^_`|~-]*$/;

function header(read: (context: FormatContext) => HeaderMap | undefined): OperatorRow {
  return {
    parameters: "required",
    length: true,
    make(argument, maxLength): Operator {
      const names = argument.split("?");
      if (names.length > 2) throw new FormatError(`More than 1 alternative header specified in token: ${argument}`);
      for (const name of names) if (!fieldName.test(name)) throw new FormatError("Invalid header configuration. Format string contains invalid characters.");
      const main = names[0].toLowerCase();
      const alternative = names[1]?.toLowerCase() ?? "";
      if (alternative === "" && maxLength === undefined) return { text: (context) => read(context)?.get(main) };
      return {
        text(context) {
          const headers = read(context);
          if (headers === undefined) return undefined;
          let value = headers.get(main);
          if (value === undefined && alternative !== "") value = headers.get(alternative);
          return value === undefined ? undefined : truncate(value, maxLength);
        },
      };
    },
  };
}

const request = header((context) => context.requestHeaders);
const response = header((context) => context.responseHeaders);
const trailer = header((context) => context.responseTrailers);

type PathSource = (headers: HeaderMap) => string | undefined;
const originalPath: PathSource = (headers) => headers.get("x-envoy-original-path");
const currentPath: PathSource = (headers) => headers.get(":path");
const pathSources: Readonly<Record<string, PathSource>> = {
  ORIG: originalPath,
  PATH: currentPath,
  ORIG_OR_PATH: (headers) => originalPath(headers) ?? currentPath(headers),
};

const hexPair = /%([0-9A-Fa-f]{2})/g;
const decodePercent = (value: string): string =>
  value.includes("%") ? value.replace(hexPair, (_, pair: string) => String.fromCharCode(Number.parseInt(pair, 16))) : value;

/** The first value of a query parameter, percent-decoded. */
function queryParameter(path: string, name: string): string | undefined {
  const start = path.indexOf("?");
  if (start < 0) return undefined;
  const fragment = path.indexOf("#", start);
  for (const pair of path.slice(start + 1, fragment < 0 ? undefined : fragment).split("&")) {
    const equals = pair.indexOf("=");
    if (decodePercent(equals < 0 ? pair : pair.slice(0, equals)) === name) return equals < 0 ? "" : decodePercent(pair.slice(equals + 1));
  }
  return undefined;
}

export const headerOperators: OperatorTable = {
  REQ: request,
  REQUEST_HEADER: request,
  STREAM_INFO_REQ: request,
  RESP: response,
  RESPONSE_HEADER: response,
  TRAILER: trailer,
  RESPONSE_TRAILER: trailer,
  REQUEST_HEADERS_BYTES: number((context) => context.requestHeaders?.byteSize() ?? 0),
  RESPONSE_HEADERS_BYTES: number((context) => context.responseHeaders?.byteSize() ?? 0),
  RESPONSE_TRAILERS_BYTES: number((context) => context.responseTrailers?.byteSize() ?? 0),
  PATH: {
    parameters: "optional",
    length: true,
    make(argument, maxLength) {
      const [query = "", source = ""] = argument.split(":");
      if (query !== "" && query !== "WQ" && query !== "NQ") throw new FormatError(`Invalid PATH option: '${query}', only 'WQ'/'NQ' are allowed`);
      if (source !== "" && !Object.hasOwn(pathSources, source))
        throw new FormatError(`Invalid PATH option: '${source}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed`);
      const read = pathSources[source === "" ? "ORIG_OR_PATH" : source];
      const withQuery = query !== "NQ";
      return {
        text({ requestHeaders }) {
          const path = requestHeaders === undefined ? undefined : read(requestHeaders);
          if (path === undefined) return undefined;
          const end = withQuery ? -1 : path.indexOf("?");
          return truncate(end < 0 ? path : path.slice(0, end), maxLength);
        },
      };
    },
  },
  QUERY_PARAM: {
    parameters: "required",
    length: true,
    make: (argument, maxLength) => ({
      text({ requestHeaders }) {
        const value = requestHeaders?.path === undefined ? undefined : queryParameter(requestHeaders.path, argument);
        return value === undefined ? undefined : truncate(value, maxLength);
      },
    }),
  },
  QUERY_PARAMS: {
    parameters: "optional",
    length: true,
    make(argument, maxLength) {
      if (argument !== "" && argument !== "ORIG" && argument !== "DECODED")
        throw new FormatError(`Invalid QUERY_PARAMS option: '${argument}', only 'ORIG'/'DECODED' are allowed`);
      const decode = argument === "DECODED";
      return {
        text({ requestHeaders }) {
          const path = requestHeaders?.path;
          const start = path?.indexOf("?") ?? -1;
          if (path === undefined || start < 0) return undefined;
          const query = path.slice(start + 1);
          return truncate(decode ? decodePercent(query) : query, maxLength);
        },
      };
    },
  },
};
