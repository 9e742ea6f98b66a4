/**
 * Who may change this proxy through a browser.
 *
 * The admin interface has no password: reaching its address is the right to use it. A web page that an operator happens to visit has that
 * reach too, through his browser: by a form or fetch() to http://127.0.0.1:9901/quitquitquit (cross-site request forgery), or by giving its
 * own host name the proxy's address (DNS rebinding). Requests that change something and come from such a page are refused. Browsers say
 * where a request comes from (Origin on every POST, Sec-Fetch-Site, Referer); curl, kubelets and scripts do not and are not touched, whatever
 * name they use.
 */
import { isIP } from "node:net";
import { hostname } from "node:os";
import type { RequestHeaders } from "../http/header-map.ts";

/** Why a request that changes something is refused; undefined: it may pass. `boundHost`: the address the interface is bound to, without port. */
export function refuseMutation(headers: RequestHeaders, boundHost: string | undefined): string | undefined {
  const origin = headers.get("origin");
  const site = headers.get("sec-fetch-site");
  const referer = headers.get("referer");
  const authority = headers.authority ?? "";
  if (site !== undefined && site !== "same-origin" && site !== "none")
    return `refused: this request was sent by a page of another site (Sec-Fetch-Site: ${printable(site)})\n`;
  if (origin !== undefined && !isSameHost(origin, authority))
    return `refused: this request was sent by a page of another origin (Origin: ${printable(origin)})\n`;
  if (origin === undefined && referer !== undefined && !isSameHost(referer, authority))
    return `refused: this request was sent by a page of another origin (Referer: ${printable(referer)})\n`;
  const fromBrowser = origin !== undefined || site !== undefined || referer !== undefined || (headers.get("user-agent") ?? "").startsWith("Mozilla/");
  if (fromBrowser && !isOwnHost(hostOf(authority), boundHost)) {
    return `refused: '${printable(authority)}' is not a name of this admin interface (a web page may have given its own name this address); use an IP address or localhost\n`;
  }
  return undefined;
}

/** "http://a:1/x" and "a:1". "null" and what does not parse are nobody's. */
function isSameHost(url: string, authority: string): boolean {
  const parsed = URL.parse(url);
  if (parsed === null || parsed.host === "") return false;
  const own = URL.parse(`${parsed.protocol}//${authority}/`);
  return own !== null && own.host === parsed.host;
}

function isOwnHost(host: string, boundHost: string | undefined): boolean {
  if (host === "" || host === "localhost" || host.endsWith(".localhost") || host === boundHost) return true;
  return isIP(host) !== 0 || host === hostname().toLowerCase();
}

/** Without port and brackets, lower case, without a closing dot. */
export function hostOf(authority: string): string {
  if (authority.startsWith("[")) {
    const end = authority.indexOf("]");
    return end < 0 ? authority : authority.slice(1, end).toLowerCase();
  }
  const colon = authority.lastIndexOf(":");
  const host = (colon < 0 ? authority : authority.slice(0, colon)).toLowerCase();
  return host.endsWith(".") ? host.slice(0, -1) : host;
}

function printable(value: string): string {
  return value.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
}
