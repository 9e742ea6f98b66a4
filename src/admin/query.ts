/** Query and form parameters of admin requests: decoded as Envoy decodes them ("+" stays, a name alone has the value ""). */

/** More than this many parameters are not looked at: no endpoint but /runtime_modify takes more than a few. */
const maxParams = 1000;

export class QueryParams {
  readonly #entries: readonly (readonly [string, string])[];

  constructor(entries: readonly (readonly [string, string])[]) {
    this.#entries = entries;
  }

  /** Of `a=1&b`; texts are latin1 code units from the wire, values are Unicode. */
  static parse(text: string): QueryParams {
    const entries: [string, string][] = [];
    if (text === "") return new QueryParams(entries);
    for (const part of text.split("&", maxParams)) {
      const equals = part.indexOf("=");
      entries.push(equals < 0 ? [percentDecode(part), ""] : [percentDecode(part.slice(0, equals)), percentDecode(part.slice(equals + 1))]);
    }
    return new QueryParams(entries);
  }

  get size(): number {
    return this.#entries.length;
  }
  get entries(): readonly (readonly [string, string])[] {
    return this.#entries;
  }
  /** The first value of a name. */
  first(name: string): string | undefined {
    return this.#entries.find((entry) => entry[0] === name)?.[1];
  }
  has(name: string): boolean {
    return this.first(name) !== undefined;
  }
}

/** "/stats?filter=a#x" to path and query; a fragment belongs to neither. */
export function splitPath(target: string): { readonly path: string; readonly query: string } {
  const hash = target.indexOf("#");
  const whole = hash < 0 ? target : target.slice(0, hash);
  const mark = whole.indexOf("?");
  return mark < 0 ? { path: whole, query: "" } : { path: whole.slice(0, mark), query: whole.slice(mark + 1) };
}

/** What is not a valid escape stays as it is; bytes that are not UTF-8 become U+FFFD. */
export function percentDecode(text: string): string {
  if (!text.includes("%")) return Buffer.from(text, "latin1").toString("utf8");
  const bytes = Buffer.from(text, "latin1");
  let to = 0;
  for (let i = 0; i < bytes.length; i++) {
    let byte = bytes[i];
    if (byte === 0x25 && i + 2 < bytes.length) {
      const high = hexDigit(bytes[i + 1]);
      const low = hexDigit(bytes[i + 2]);
      if (high >= 0 && low >= 0) {
        byte = high * 16 + low;
        i += 2;
      }
    }
    bytes[to++] = byte;
  }
  return bytes.toString("utf8", 0, to);
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const lower = code | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}
