/** From request path to file path. Paths are strings of bytes (latin1), as headers are. */

export interface PathMapping {
  readonly requestPathPrefix: string;
  readonly filePathPrefix: string;
}

const pair = /%([0-9A-Fa-f]{2})/g;
/** Percent-decodes once; what is not a pair of hex digits stays. */
export function decodePath(path: string): string {
  return path.includes("%") ? path.replace(pair, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))) : path;
}

/** Longest prefix first, so that the first match is the right one. */
export function sortMappings(mappings: readonly PathMapping[]): readonly PathMapping[] {
  return [...mappings].sort((a, b) => b.requestPathPrefix.length - a.requestPathPrefix.length);
}

export function findMapping(mappings: readonly PathMapping[], decodedPath: string): PathMapping | undefined {
  for (const mapping of mappings) if (decodedPath.startsWith(mapping.requestPathPrefix)) return mapping;
  return undefined;
}

/**
 * The file a decoded path (query and all) names below the mapping's prefix; undefined where the path is not in normal form: "." or ".." as
 * a segment, a doubled slash where the prefixes meet, or a NUL byte (which would end the name early in the system call).
 * Symbolic links are followed: where they lead is up to the owner of the files.
 */
export function applyMapping(decodedPath: string, mapping: PathMapping): string | undefined {
  const query = decodedPath.indexOf("?");
  let kept = (query < 0 ? decodedPath : decodedPath.slice(0, query)).slice(mapping.requestPathPrefix.length);
  if (kept.startsWith("/")) {
    if (mapping.requestPathPrefix.endsWith("/")) return undefined;
    kept = kept.slice(1);
    if (kept.startsWith("/")) return undefined;
  }
  if (kept.includes("\0")) return undefined;
  const prefix = mapping.filePathPrefix;
  const file = prefix.endsWith("/") ? prefix + kept : `${prefix}/${kept}`;
  for (const segment of file.split("/")) if (segment === "." || segment === "..") return undefined;
  return file;
}

/** What a content type is looked up by: the lower-case suffix behind the last dot, or the whole name of a file without one. */
export function contentTypeKey(file: string): string {
  const name = file.slice(file.lastIndexOf("/") + 1);
  const dot = name.lastIndexOf(".");
  return (dot <= 0 ? name : name.slice(dot + 1)).replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
