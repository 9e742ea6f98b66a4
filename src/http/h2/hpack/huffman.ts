/** The Huffman code of RFC 7541 appendix B. It is canonical: the lengths of the codes say all. */

/** Bits of each octet's code, run length coded as "bits" or "bits*times", and at last those of EOS. */
const lengthList =
  "13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 " +
  "7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 " +
  "22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 26 23 26 " +
  "27 26*2 27*5 28 27*5 26 30";

const lengths = new Uint8Array(257);
const codes = new Uint32Array(257);
{
  let at = 0;
  for (const part of lengthList.split(" ")) {
    const [bits, times = "1"] = part.split("*");
    for (let i = 0; i < Number(times); i++) lengths[at++] = Number(bits);
  }
  let code = 0;
  let before = 0;
  const order = Array.from(lengths, (_, symbol) => symbol).sort((a, b) => lengths[a] - lengths[b] || a - b);
  for (const symbol of order) {
    code *= 2 ** (lengths[symbol] - before);
    before = lengths[symbol];
    codes[symbol] = code++;
  }
}

/**
 * One step for each state (a place inside the tree of codes) and octet: bits 0-7 the next state, 8-15 and 16-23 up to two octets that were completed, 24-25 how
 * many, 26 set where the code of EOS was met, which is an error.
 */
let steps: Int32Array | undefined;
/** States in which a text may end: behind no more than seven bits, all ones. */
let mayEnd: Uint8Array;
const failed = 1 << 26;

/** 256 kB, made when the first text comes in. */
function makeSteps(): Int32Array {
  // Inner nodes by number; a child is the number of an inner node, or ~symbol.
  const left: number[] = [0];
  const right: number[] = [0];
  for (let symbol = 0; symbol < 257; symbol++) {
    let node = 0;
    for (let bit = lengths[symbol] - 1; bit >= 0; bit--) {
      const side = (codes[symbol] >>> bit) & 1 ? right : left;
      if (bit === 0) side[node] = ~symbol;
      else {
        if (side[node] === 0) {
          side[node] = left.length;
          left.push(0);
          right.push(0);
        }
        node = side[node];
      }
    }
  }
  mayEnd = new Uint8Array(256);
  for (let node = 0, depth = 0; depth < 8; depth++, node = right[node]) mayEnd[node] = 1;
  const made = new Int32Array(256 * 256);
  for (let state = 0; state < 256; state++) {
    for (let octet = 0; octet < 256; octet++) {
      let node = state;
      let symbols = 0;
      let count = 0;
      for (let bit = 7; bit >= 0; bit--) {
        const next = (octet >> bit) & 1 ? right[node] : left[node];
        if (next >= 0) node = next;
        else if (~next === 256) {
          symbols = failed;
          break;
        } else {
          symbols |= ~next << (8 + 8 * count++);
          node = 0;
        }
      }
      made[state * 256 + octet] = symbols === failed ? failed : symbols | (count << 24) | node;
    }
  }
  return made;
}

/** The longest text that is decoded in one piece; a shorter code than five bits there is not. */
let scratch = Buffer.allocUnsafeSlow(4096);

/** The text of `bytes[from..to)` as latin1; undefined: it is not in the code. */
export function huffmanDecode(bytes: Buffer, from: number, to: number): string | undefined {
  const table = (steps ??= makeSteps());
  const most = Math.ceil(((to - from) * 8) / 5);
  if (scratch.length < most) scratch = Buffer.allocUnsafeSlow(most * 2);
  const out = scratch;
  let length = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const step = table[(state << 8) | bytes[i]];
    const count = step >>> 24;
    if (count > 0) {
      if (count > 2) return undefined;
      out[length++] = (step >>> 8) & 0xff;
      if (count === 2) out[length++] = (step >>> 16) & 0xff;
    }
    state = step & 0xff;
  }
  return mayEnd[state] === 1 ? out.toString("latin1", 0, length) : undefined;
}

/** Octets that a latin1 text takes. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += lengths[text.charCodeAt(i) & 0xff];
  return (bits + 7) >>> 3;
}

/** Writes the code of a latin1 text; where it ends. `out` must have room for `huffmanLength` octets. */
export function huffmanEncode(text: string, out: Buffer, at: number): number {
  // Up to 7 bits wait while the next code, of at most 30, is put behind them: more than fits the 32 bits of an operator, so codes go in two parts.
  let waiting = 0;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    let bits = lengths[symbol];
    const code = codes[symbol];
    if (bits > 16) {
      bits -= 16;
      waiting = (waiting << 16) | (code >>> bits);
      count += 16;
      while (count >= 8) {
        count -= 8;
        out[at++] = waiting >>> count;
      }
      waiting &= (1 << count) - 1;
    }
    waiting = (waiting << bits) | (code & ((1 << bits) - 1));
    count += bits;
    while (count >= 8) {
      count -= 8;
      out[at++] = waiting >>> count;
    }
    waiting &= (1 << count) - 1;
  }
  if (count > 0) out[at++] = (waiting << (8 - count)) | ((1 << (8 - count)) - 1);
  return at;
}
