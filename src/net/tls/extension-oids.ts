/** The object identifiers of a certificate's extensions, which node's X509Certificate does not tell. */

interface Element {
  readonly tag: number;
  readonly from: number;
  readonly to: number;
}

/** One DER element at `at`; undefined where there is none. */
function element(der: Buffer, at: number, end: number): Element | undefined {
  if (at + 2 > end) return undefined;
  let length = der[at + 1];
  let from = at + 2;
  if (length >= 0x80) {
    const bytes = length & 0x7f;
    if (bytes === 0 || bytes > 4 || from + bytes > end) return undefined;
    length = der.readUIntBE(from, bytes);
    from += bytes;
  }
  return from + length > end ? undefined : { tag: der[at], from, to: from + length };
}

function* elements(der: Buffer, { from, to }: Element): Generator<Element> {
  for (let at = from; at < to; ) {
    const one = element(der, at, to);
    if (one === undefined) return;
    yield one;
    at = one.to;
  }
}

function first(der: Buffer, parent: Element | undefined, tag: number): Element | undefined {
  if (parent === undefined) return undefined;
  for (const one of elements(der, parent)) if (one.tag === tag) return one;
  return undefined;
}

const sequence = 0x30;
const objectIdentifier = 0x06;
const extensionsTag = 0xa3;

/** In dotted form, in the certificate's order; none where the bytes are no certificate. */
export function extensionOids(der: Buffer): string[] {
  const certificate = element(der, 0, der.length);
  const body = certificate?.tag === sequence ? first(der, certificate, sequence) : undefined;
  const list = first(der, first(der, body, extensionsTag), sequence);
  const found: string[] = [];
  if (list === undefined) return found;
  for (const extension of elements(der, list)) {
    const id = first(der, extension, objectIdentifier);
    if (id !== undefined) found.push(dotted(der.subarray(id.from, id.to)));
  }
  return found;
}

function dotted(bytes: Buffer): string {
  const parts: number[] = [];
  let value = 0;
  for (const byte of bytes) {
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    if (parts.length === 0) {
      const top = Math.min(2, Math.floor(value / 40));
      parts.push(top, value - top * 40);
    } else parts.push(value);
    value = 0;
  }
  return parts.join(".");
}
