/** Whether two message trees say the same. */
import { createHash } from "node:crypto";

/** Contents of the files that a configuration names, by path. */
export type FileContents = ReadonlyMap<string, Uint8Array>;

const digests = new WeakMap<Uint8Array, string>();

function digest(contents: Uint8Array): string {
  let made = digests.get(contents);
  if (made === undefined) {
    made = createHash("sha256").update(contents).digest("base64");
    digests.set(contents, made);
  }
  return made;
}

/**
 * Text of a message tree that is equal exactly for equal trees (64-bit integers and bytes included). With `files`, a path counts with what
 * is in its file: a renewed certificate is a changed listener. `expand` puts what a message only names in its place.
 */
export function fingerprint(message: unknown, files?: FileContents, expand?: (value: object) => object): string {
  return JSON.stringify(message, (_key, given: unknown) => {
    const value = expand !== undefined && typeof given === "object" && given !== null ? expand(given) : given;
    if (typeof value === "string") {
      const contents = files?.get(value);
      return contents === undefined ? value : `${value}\u0000${digest(contents)}`;
    }
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
    return value;
  });
}
