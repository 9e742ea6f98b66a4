/** Any bytes as header blocks: they end in fields or a refusal, the table keeps its bound, and what was read survives being written and read again. */
import type { FuzzTarget } from "../../../testing/fuzz.ts";
import { HpackDecoder, HpackError } from "./decoder.ts";
import { HpackEncoder } from "./encoder.ts";

const tableSize = 512;

function read(decoder: HpackDecoder, block: Buffer): string[] {
  const list: string[] = [];
  decoder.decode(block, 0, block.length, { onField: (name, value) => list.push(name, value) });
  return list;
}

const target: FuzzTarget = {
  maxBytes: 1024,
  seeds: [
    Buffer.from("828684418cf1e3c2e5f23a6ba0ab90f4ff", "hex"),
    Buffer.from("828684be5886a8eb10649cbf", "hex"),
    Buffer.from("3fe1038287844089f2b567f05b0b22d1fa868fc1bf", "hex"),
    Buffer.from("2040016101624001610162be", "hex"),
  ],
  dictionary: ["\x82", "\xbe", "\x40", "\x20", "\x3f\xe1\x03", "\x10", "\x41\x8c", "\x7f\x80", "\x84\xff\xff\xff\xff"],
  run(input) {
    const decoder = new HpackDecoder(tableSize);
    const encoder = new HpackEncoder(tableSize);
    const again = new HpackDecoder(tableSize);
    const block = Buffer.from(input);
    // In two blocks: the second meets the table that the first has left.
    const middle = block.length >> 1;
    for (const part of [block.subarray(0, middle), block.subarray(middle)]) {
      let list: string[];
      try {
        list = read(decoder, part);
      } catch (error) {
        if (error instanceof HpackError) return;
        throw error;
      }
      if (decoder.tableSize > tableSize) throw new Error(`the table has ${decoder.tableSize} octets`);
      encoder.begin();
      for (let i = 0; i < list.length; i += 2) encoder.field(list[i], list[i + 1]);
      const written = Buffer.from(encoder.end().subarray(0, encoder.length));
      if (JSON.stringify(read(again, written)) !== JSON.stringify(list)) throw new Error(`written and read again: ${written.toString("hex")}`);
    }
  },
};
export default target;
