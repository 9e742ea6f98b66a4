/**
 * HTTP fields as flat arrays of lower-case name and value, in wire order, as every codec delivers them.
 *
 * Pseudo-headers are not in the list: they are properties (`path`, `authority`, ...), and `get(":path")` finds them, so that
 * matchers and formatters can name them as Envoy's configuration does. `host` is an alias of `:authority` in requests.
 * Values are strings of latin1 code units (one code unit a byte), as they came from the wire.
 */
export class HeaderMap {
  /** name, value, name, value, ... Read it in loops that must be fast; change it through the methods. */
  list: string[];
  /** The names as they stood on the wire, one per field, kept only where a stateful header formatter (preserve_case) asks. */
  rawNames: string[] | undefined = undefined;
  /** A filter has put values here that no codec has looked at: they are checked before they go on (http/field-rules.ts). */
  unchecked = false;

  constructor(list: string[] = []) {
    this.list = list;
  }

  /** How many fields there are, pseudo-headers not counted. */
  get size(): number {
    return this.list.length >> 1;
  }

  /** The first value of a field, or undefined. `name` must be lower case. */
  get(name: string): string | undefined {
    if (name.charCodeAt(0) === 58) return this.pseudo(name);
    const list = this.list;
    for (let i = 0; i < list.length; i += 2) if (list[i] === name) return list[i + 1];
    return undefined;
  }

  /** Every value of a field, in order. */
  getAll(name: string): string[] {
    const found: string[] = [];
    if (name.charCodeAt(0) === 58) {
      const value = this.pseudo(name);
      if (value !== undefined) found.push(value);
      return found;
    }
    const list = this.list;
    for (let i = 0; i < list.length; i += 2) if (list[i] === name) found.push(list[i + 1]);
    return found;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** Appends a field, whatever stands there already. */
  add(name: string, value: string): void {
    if (name.charCodeAt(0) === 58) {
      this.setPseudo(name, value);
      return;
    }
    this.list.push(name, value);
    this.rawNames?.push(name);
  }

  /** Replaces all fields of this name by one, in the place of the first. */
  set(name: string, value: string): void {
    if (name.charCodeAt(0) === 58) {
      this.setPseudo(name, value);
      return;
    }
    const list = this.list;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] === name) {
        list[i + 1] = value;
        this.#removeFrom(name, i + 2);
        return;
      }
    }
    this.add(name, value);
  }

  /** Removes every field of this name; how many there were. */
  remove(name: string): number {
    if (name.charCodeAt(0) === 58) {
      const had = this.pseudo(name) !== undefined;
      this.setPseudo(name, undefined);
      return had ? 1 : 0;
    }
    return this.#removeFrom(name, 0);
  }

  /** Removes every field for which `test` says so. */
  removeIf(test: (name: string, value: string) => boolean): number {
    const list = this.list;
    let to = 0;
    for (let i = 0; i < list.length; i += 2) {
      if (test(list[i], list[i + 1])) continue;
      if (to !== i) {
        list[to] = list[i];
        list[to + 1] = list[i + 1];
        if (this.rawNames) this.rawNames[to >> 1] = this.rawNames[i >> 1];
      }
      to += 2;
    }
    const removed = (list.length - to) >> 1;
    if (removed > 0) {
      list.length = to;
      if (this.rawNames) this.rawNames.length = to >> 1;
    }
    return removed;
  }

  forEach(visit: (name: string, value: string) => void): void {
    const list = this.list;
    for (let i = 0; i < list.length; i += 2) visit(list[i], list[i + 1]);
  }

  /** Bytes of all names and values, pseudo-headers with their names, as Envoy's `byteSize`. */
  byteSize(): number {
    const list = this.list;
    let bytes = 0;
    for (let i = 0; i < list.length; i++) bytes += list[i].length;
    return bytes;
  }

  protected pseudo(_name: string): string | undefined {
    return undefined;
  }

  protected setPseudo(_name: string, _value: string | undefined): void {}

  #removeFrom(name: string, from: number): number {
    const list = this.list;
    let i = from;
    while (i < list.length && list[i] !== name) i += 2;
    if (i >= list.length) return 0;
    let to = i;
    for (; i < list.length; i += 2) {
      if (list[i] === name) continue;
      list[to] = list[i];
      list[to + 1] = list[i + 1];
      if (this.rawNames) this.rawNames[to >> 1] = this.rawNames[i >> 1];
      to += 2;
    }
    const removed = (list.length - to) >> 1;
    list.length = to;
    if (this.rawNames) this.rawNames.length = to >> 1;
    return removed;
  }
}

/** A request's head. `authority` is undefined where a request came without Host and that is allowed. */
export class RequestHeaders extends HeaderMap {
  method: string;
  /** The path with query (`:path`); undefined for CONNECT without one. */
  path: string | undefined;
  authority: string | undefined;
  scheme: string | undefined;
  /** `:protocol` of extended CONNECT; for HTTP/1 upgrades the field `upgrade` stays in the list. */
  protocol: string | undefined;

  constructor(method: string, path: string | undefined, authority: string | undefined, scheme: string | undefined, list: string[] = []) {
    super(list);
    this.method = method;
    this.path = path;
    this.authority = authority;
    this.scheme = scheme;
    this.protocol = undefined;
  }

  override get(name: string): string | undefined {
    if (name === "host") return this.authority;
    return super.get(name);
  }

  override getAll(name: string): string[] {
    if (name === "host") return this.authority === undefined ? [] : [this.authority];
    return super.getAll(name);
  }

  override add(name: string, value: string): void {
    if (name === "host") this.authority = value;
    else super.add(name, value);
  }

  override set(name: string, value: string): void {
    if (name === "host") this.authority = value;
    else super.set(name, value);
  }

  override byteSize(): number {
    return (
      super.byteSize() +
      7 +
      this.method.length +
      (this.path === undefined ? 0 : 5 + this.path.length) +
      (this.authority === undefined ? 0 : 10 + this.authority.length) +
      (this.scheme === undefined ? 0 : 7 + this.scheme.length)
    );
  }

  /** A copy whose changes do not show here: for mirrors, retries and internal redirects. */
  clone(): RequestHeaders {
    const copy = new RequestHeaders(this.method, this.path, this.authority, this.scheme, this.list.slice());
    copy.protocol = this.protocol;
    copy.unchecked = this.unchecked;
    copy.rawNames = this.rawNames?.slice();
    return copy;
  }

  protected override pseudo(name: string): string | undefined {
    switch (name) {
      case ":path":
        return this.path;
      case ":authority":
        return this.authority;
      case ":method":
        return this.method;
      case ":scheme":
        return this.scheme;
      case ":protocol":
        return this.protocol;
      default:
        return undefined;
    }
  }

  protected override setPseudo(name: string, value: string | undefined): void {
    switch (name) {
      case ":path":
        this.path = value;
        break;
      case ":authority":
        this.authority = value;
        break;
      case ":method":
        this.method = value ?? "";
        break;
      case ":scheme":
        this.scheme = value;
        break;
      case ":protocol":
        this.protocol = value;
        break;
    }
  }
}

/** A response's head. */
export class ResponseHeaders extends HeaderMap {
  status: number;
  /** The text behind the status of HTTP/1 where a filter has set one; undefined: the usual one. */
  reasonPhrase: string | undefined = undefined;

  constructor(status: number, list: string[] = []) {
    super(list);
    this.status = status;
  }

  override byteSize(): number {
    return super.byteSize() + 10;
  }

  clone(): ResponseHeaders {
    const copy = new ResponseHeaders(this.status, this.list.slice());
    copy.reasonPhrase = this.reasonPhrase;
    copy.rawNames = this.rawNames?.slice();
    return copy;
  }

  protected override pseudo(name: string): string | undefined {
    return name === ":status" ? String(this.status) : undefined;
  }

  protected override setPseudo(name: string, value: string | undefined): void {
    if (name === ":status") this.status = Number(value);
  }
}

/** Trailers of either direction. */
export class Trailers extends HeaderMap {}
