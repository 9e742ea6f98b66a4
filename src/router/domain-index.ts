/** Virtual host lookup: exact domain, then the longest suffix wildcard, then the longest prefix wildcard, then "*". */
import { asciiLower } from "../matching/string-matcher.ts";

export class DomainIndex<V> {
  readonly #exact = new Map<string, V>();
  /** Wildcards by length, longest first. */
  readonly #suffixes: { readonly length: number; readonly values: Map<string, V> }[] = [];
  readonly #prefixes: { readonly length: number; readonly values: Map<string, V> }[] = [];
  #any: V | undefined = undefined;

  /** Adds a domain pattern; false where the same one is there already. */
  add(pattern: string, value: V): boolean {
    const domain = asciiLower(pattern);
    if (domain === "*") {
      if (this.#any !== undefined) return false;
      this.#any = value;
      return true;
    }
    if (domain.startsWith("*")) return addWildcard(this.#suffixes, domain.slice(1), value);
    if (domain.endsWith("*")) return addWildcard(this.#prefixes, domain.slice(0, -1), value);
    if (this.#exact.has(domain)) return false;
    this.#exact.set(domain, value);
    return true;
  }

  get hasOnlyAny(): boolean {
    return this.#exact.size === 0 && this.#suffixes.length === 0 && this.#prefixes.length === 0;
  }

  get any(): V | undefined {
    return this.#any;
  }

  /** `host` as it came; case is ignored. */
  find(host: string): V | undefined {
    const name = asciiLower(host);
    const exact = this.#exact.get(name);
    if (exact !== undefined) return exact;
    // A wildcard stands for at least one character.
    for (const { length, values } of this.#suffixes) {
      if (length >= name.length) continue;
      const found = values.get(name.slice(name.length - length));
      if (found !== undefined) return found;
    }
    for (const { length, values } of this.#prefixes) {
      if (length >= name.length) continue;
      const found = values.get(name.slice(0, length));
      if (found !== undefined) return found;
    }
    return this.#any;
  }
}

function addWildcard<V>(groups: { readonly length: number; readonly values: Map<string, V> }[], text: string, value: V): boolean {
  let group = groups.find((one) => one.length === text.length);
  if (group === undefined) {
    group = { length: text.length, values: new Map() };
    groups.push(group);
    groups.sort((a, b) => b.length - a.length);
  }
  if (group.values.has(text)) return false;
  group.values.set(text, value);
  return true;
}

/** A host without its port, as Envoy's getPortStart sees one: digits behind the last colon (behind "]" for IPv6). */
export function withoutPort(host: string): string {
  const colon = host.lastIndexOf(":");
  if (colon < 0) return host;
  const bracket = host.lastIndexOf("]");
  if (bracket > colon) return host;
  // More than one colon without brackets is an IPv6 address without a port.
  if (bracket < 0 && host.indexOf(":") !== colon) return host;
  for (let i = colon + 1; i < host.length; i++) {
    const c = host.charCodeAt(i);
    if (c < 48 || c > 57) return host;
  }
  return colon + 1 === host.length ? host : host.slice(0, colon);
}
