/** A stream as formats see it, for tests and the fuzz target. */
import { RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import { StreamInfo } from "../http/stream-info.ts";
import type { FormatContext } from "./formatter.ts";

/** Sunday 2026-02-01T03:04:05.006Z */
export const testWallMs = Date.UTC(2026, 1, 1, 3, 4, 5, 6);

export function testContext(
  changes: { requestHeaders?: string[]; responseHeaders?: string[]; trailers?: string[]; path?: string; body?: string } = {},
  change?: (info: StreamInfo) => void,
): FormatContext {
  // A start that the process clock does not place near the wall time has no fraction of a millisecond.
  const info = new StreamInfo(1000, testWallMs);
  info.endMs = 1250;
  info.protocol = "HTTP/1.1";
  info.responseCode = 200;
  info.responseCodeDetails = "via_upstream";
  info.bytesReceived = 3;
  info.bytesSent = 5;
  change?.(info);
  return {
    info,
    requestHeaders: new RequestHeaders("GET", changes.path ?? "/p?a=1", "a.test", "http", changes.requestHeaders ?? []),
    responseHeaders: new ResponseHeaders(info.responseCode ?? 200, changes.responseHeaders ?? []),
    responseTrailers: changes.trailers === undefined ? undefined : new Trailers(changes.trailers),
    localReplyBody: changes.body ?? "",
    accessLogType: "DownstreamEnd",
  };
}
