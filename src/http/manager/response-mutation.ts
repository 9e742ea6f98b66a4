/** What the connection manager does to a response's head on its way out. */
import type { RequestHeaders, ResponseHeaders } from "../header-map.ts";
import type { ActiveStream } from "./stream.ts";

let dateSecond = 0;
let dateText = "";

/** The Date field (RFC 9110 6.6.1), made once a second. */
export function httpDate(wallMs: number): string {
  const second = Math.floor(wallMs / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(second * 1000).toUTCString();
  }
  return dateText;
}

export function finalizeResponse(headers: ResponseHeaders, request: RequestHeaders | undefined, stream: ActiveStream, interim: boolean): void {
  const { settings } = stream;
  const { list } = headers;
  let keepUpgrade = false;
  if (stream.isUpgrade) {
    keepUpgrade = headers.get("upgrade") !== undefined && request?.get("upgrade") !== undefined;
    if (keepUpgrade && headers.status >= 200 && headers.get("transfer-encoding") === undefined && headers.get("content-length") === undefined)
      headers.set("content-length", "0");
  }
  let hasDate = false;
  let server = -1;
  for (let i = 0; i < list.length; i += 2) {
    switch (list[i]) {
      case "date":
        hasDate = true;
        continue;
      case "server":
        server = i;
        continue;
      case "connection":
      case "upgrade":
        if (keepUpgrade) continue;
        break;
      case "transfer-encoding":
      case "keep-alive":
      case "proxy-connection":
        break;
      default:
        continue;
    }
    list.splice(i, 2);
    headers.rawNames?.splice(i >> 1, 1);
    if (server > i) server -= 2;
    i -= 2;
  }
  if (!interim) {
    if (!hasDate) headers.add("date", httpDate(stream.timers.clock.wall()));
    if (settings.serverHeader === "overwrite") {
      if (server >= 0) headers.set("server", settings.serverName);
      else headers.add("server", settings.serverName);
    } else if (settings.serverHeader === "append_if_absent" && server < 0) headers.add("server", settings.serverName);
  }
  if (settings.via !== "") {
    const via = headers.get("via");
    headers.set("via", via === undefined || via === "" ? settings.via : `${via}, ${settings.via}`);
  }
  if (settings.alwaysSetRequestIdInResponse || request?.get(`${settings.headerPrefix}-force-trace`) !== undefined) {
    const id = request?.get("x-request-id");
    if (id !== undefined && id !== "") headers.set("x-request-id", id);
  }
}
