/** Fields of a small protobuf message whose type is not part of the API. The last of each number counts. */

export interface WireFields {
  /** Empty where it is not set. */
  bytes(field: number): Buffer;
  text(field: number): string;
  number(field: number): number;
}

/** undefined: the bytes are no message. */
export function readFields(data: Buffer): WireFields | undefined {
  const chunks = new Map<number, Buffer>();
  const numbers = new Map<number, number>();
  let at = 0;
  const varint = (): number | undefined => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= data.length) return undefined;
      const byte = data[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  };
  while (at < data.length) {
    const tag = varint();
    if (tag === undefined || tag < 8) return undefined;
    const field = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0: {
        const value = varint();
        if (value === undefined) return undefined;
        numbers.set(field, value);
        break;
      }
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        if (length === undefined || at + length > data.length) return undefined;
        chunks.set(field, data.subarray(at, at + length));
        at += length;
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        return undefined;
    }
    if (at > data.length) return undefined;
  }
  const bytes = (field: number): Buffer => chunks.get(field) ?? Buffer.alloc(0);
  return { bytes, text: (field) => bytes(field).toString("utf8"), number: (field) => numbers.get(field) ?? 0 };
}
