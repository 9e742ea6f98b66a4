/**
 * multilog's patterns: every byte stands for itself but `*`, which skips to the first occurrence of the byte after it and never goes back;
 * at the end of the pattern it takes everything. Linear in the line.
 */

const STAR = 0x2a;

/** Whether the whole of `line[start, end)` matches. */
export function matches(pattern: Uint8Array, line: Uint8Array, start: number, end: number): boolean {
  let at = start;
  for (let i = 0; i < pattern.length; i++) {
    const byte = pattern[i];
    if (byte !== STAR) {
      if (at >= end || line[at] !== byte) return false;
      at++;
      continue;
    }
    if (i + 1 === pattern.length) return true;
    // The byte found is still to be matched: after `**` it is a star again, not a byte.
    const found = line.indexOf(pattern[i + 1], at);
    if (found < 0 || found >= end) return false;
    at = found;
  }
  return at === end;
}
