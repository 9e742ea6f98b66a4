/** The fields of one header block, checked as they come (RFC 9113 8): what a codec makes a head or trailers of. */
import { type FieldSink, HpackError } from "./hpack/decoder.ts";
import { type NameKind, nameKind } from "./hpack/fields.ts";
import type { H2Settings } from "./settings.ts";

export type BlockKind = "request" | "response" | "trailers";

/** Response code details, as Envoy's. */
export const details = {
  invalidField: "http2.invalid.header.field",
  messaging: "http2.violation.of.messaging.rule",
  tooMany: "http2.too_many_headers",
  tooLarge: "http2.header_list_size_too_large",
  underscore: "http2.unexpected_underscore",
  remoteReset: "http2.remote_reset",
  remoteRefuse: "http2.remote_refuse",
  emptyFrames: "http2.inbound_empty_frames_flood",
} as const;

export class HeaderCollector implements FieldSink {
  readonly #settings: H2Settings;
  #kind: BlockKind = "request";
  /** name, value, ... without pseudo-headers. */
  list: string[] = [];
  method: string | undefined = undefined;
  path: string | undefined = undefined;
  authority: string | undefined = undefined;
  scheme: string | undefined = undefined;
  protocol: string | undefined = undefined;
  status = 0;
  host: string | undefined = undefined;
  /** -1: not given. */
  contentLength = -1;
  upgradeAllowed = false;
  /** Octets of names and values, whatever was kept. */
  bytes = 0;
  count = 0;
  /** What is wrong with the message; "": nothing. */
  problem: string = "";
  /** More than the limits allow: `details.tooMany` or `tooLarge`; "" while they hold. */
  overflow: string = "";
  #regular = false;
  #cookie = -1;

  constructor(settings: H2Settings) {
    this.#settings = settings;
  }

  begin(kind: BlockKind): void {
    this.#kind = kind;
    this.list = [];
    this.method = undefined;
    this.path = undefined;
    this.authority = undefined;
    this.scheme = undefined;
    this.protocol = undefined;
    this.status = 0;
    this.host = undefined;
    this.contentLength = -1;
    this.bytes = 0;
    this.count = 0;
    this.problem = "";
    this.overflow = "";
    this.#regular = false;
    this.#cookie = -1;
  }

  onField(name: string, value: string, kind: NameKind, validValue: boolean): void {
    const settings = this.#settings;
    const bytes = name.length + value.length;
    this.bytes += bytes;
    if (++this.count > settings.maxHeaderCount) this.overflow ||= details.tooMany;
    if (this.bytes > settings.maxHeadBytes) this.overflow ||= details.tooLarge;
    if (settings.maxFieldBytes > 0 && bytes > settings.maxFieldBytes) throw new HpackError("a field over max_header_field_size_kb");
    // A block that is refused is read to its end for the sake of the tables, and nothing of it is kept.
    if (this.overflow !== "" || this.problem !== "") return;
    if (!validValue || (settings.refusesObsText && hasObsText(value))) {
      this.problem = details.invalidField;
      return;
    }
    switch (kind) {
      case nameKind.ordinary:
        this.#regular = true;
        if (settings.underscores !== "allow" && name.includes("_") && !this.#keepsUnderscore()) return;
        this.list.push(name, value);
        return;
      case nameKind.cookie:
        this.#regular = true;
        // RFC 9113 8.2.3: cut into pieces to be compressed better; whoever reads on expects one field.
        if (this.#cookie >= 0) this.list[this.#cookie] += `; ${value}`;
        else {
          this.#cookie = this.list.length + 1;
          this.list.push(name, value);
        }
        return;
      case nameKind.contentLength:
        this.#regular = true;
        if (this.contentLength >= 0 || !/^\d{1,15}$/.test(value)) this.problem = details.invalidField;
        else this.contentLength = Number(value);
        this.list.push(name, value);
        return;
      case nameKind.host:
        this.#regular = true;
        if (this.#kind !== "request") this.list.push(name, value);
        else if (!isAuthority(value)) this.problem = details.invalidField;
        else this.host ??= value;
        return;
      case nameKind.te:
        this.#regular = true;
        if (this.#kind === "request" && value.toLowerCase() !== "trailers") this.problem = details.invalidField;
        this.list.push(name, value);
        return;
      case nameKind.invalid:
      case nameKind.connection:
      case nameKind.otherPseudo:
        this.problem = details.invalidField;
        return;
    }
    this.#pseudo(kind, value);
  }

  #pseudo(kind: NameKind, value: string): void {
    let wrong = this.#regular || this.#kind === "trailers" || (this.#kind === "response") !== (kind === nameKind.status);
    switch (kind) {
      case nameKind.method:
        wrong ||= this.method !== undefined || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(value);
        this.method = value;
        break;
      case nameKind.path:
        wrong ||= this.path !== undefined || value === "" || !isPath(value);
        this.path = value;
        break;
      case nameKind.authority:
        wrong ||= this.authority !== undefined || !isAuthority(value);
        this.authority = value;
        break;
      case nameKind.scheme:
        wrong ||= this.scheme !== undefined || !/^[A-Za-z][A-Za-z0-9+.-]*$/.test(value);
        this.scheme = value;
        break;
      case nameKind.protocol:
        wrong ||= this.protocol !== undefined || !this.#settings.allowConnect || value === "";
        this.protocol = value;
        break;
      case nameKind.status:
        wrong ||= this.status !== 0 || !/^[1-9]\d\d$/.test(value) || value === "101";
        this.status = Number(value);
        break;
    }
    if (wrong) this.problem = details.invalidField;
  }

  /** False: the field is not for us; what that means has been noted. */
  #keepsUnderscore(): boolean {
    const { underscores, stats } = this.#settings;
    if (underscores === "drop") stats.dropped_headers_with_underscores.inc();
    else {
      stats.requests_rejected_with_underscores_in_headers.inc();
      this.overflow = details.underscore;
    }
    return false;
  }

  /** At the block's end: what must be there is there. */
  finish(): void {
    if (this.problem !== "" || this.overflow !== "") return;
    if (this.#kind === "response") {
      if (this.status === 0) this.problem = details.messaging;
      return;
    }
    if (this.#kind === "trailers") return;
    const { method, path, scheme, protocol } = this;
    if (this.authority === undefined) this.authority = this.host;
    const complete = method !== undefined && this.authority !== undefined;
    if (method === "CONNECT" && protocol === undefined) {
      if (!complete || path !== undefined || scheme !== undefined) this.problem = details.messaging;
      return;
    }
    if (!complete || path === undefined || scheme === undefined) this.problem = details.messaging;
    else if (protocol !== undefined && method !== "CONNECT") this.problem = details.messaging;
    else if (path.charCodeAt(0) !== 47 && !(path === "*" && method === "OPTIONS") && (scheme === "http" || scheme === "https"))
      this.problem = details.messaging;
  }
}

function hasObsText(value: string): boolean {
  for (let i = 0; i < value.length; i++) if (value.charCodeAt(i) > 0x7f) return true;
  return false;
}

function isPath(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code <= 0x20 || code === 0x7f) return false;
  }
  return true;
}

const authorityCharacters = new Uint8Array(256);
for (const character of "!$%&'()*+,-.0123456789:;=ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~") authorityCharacters[character.charCodeAt(0)] = 1;

function isAuthority(value: string): boolean {
  if (value === "") return false;
  for (let i = 0; i < value.length; i++) if (authorityCharacters[value.charCodeAt(i)] === 0) return false;
  return true;
}
