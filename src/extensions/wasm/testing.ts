/** An assembler for small Proxy-Wasm modules, for tests: functions as bytes of code, texts in memory, imports as they are called. */

/** Unsigned LEB128. */
function unsigned(value: number): number[] {
  const out: number[] = [];
  let rest = value >>> 0;
  do {
    const low = rest & 127;
    rest >>>= 7;
    out.push(rest === 0 ? low : low | 128);
  } while (rest !== 0);
  return out;
}
/** Signed LEB128. */
function signed(value: number): number[] {
  const out: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 127;
    rest >>= 7;
    const done = (rest === 0 && (low & 64) === 0) || (rest === -1 && (low & 64) !== 0);
    out.push(done ? low : low | 128);
    if (done) return out;
  }
}
const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const text = (value: string): number[] => [...unsigned(Buffer.byteLength(value)), ...Buffer.from(value)];
const section = (number: number, content: readonly number[]): number[] => [number, ...unsigned(content.length), ...content];

export type Code = readonly number[];
export const i32 = (value: number): Code => [0x41, ...signed(value)];
export const i64 = (value: number): Code => [0x42, ...signed(value)];
/** The n-th parameter. */
export const parameter = (index: number): Code => [0x20, ...unsigned(index)];
export const load32 = (at: number): Code => [...i32(at), 0x28, 2, 0];
export const trap: Code = [0x00];
export const drop: Code = [0x1a];
export const when = (condition: Code, body: Code): Code => [...condition, 0x04, 0x40, ...body, 0x0b];

interface Signature {
  readonly parameters: readonly ("i32" | "i64")[];
  readonly result: boolean;
}

export class TestModule {
  #data: number[] = new Array(1024).fill(0);
  readonly #imports: { readonly space: string; readonly name: string; readonly signature: Signature }[] = [];
  readonly #functions = new Map<string, { readonly parameters: number; readonly result: boolean; readonly code: Code }>();
  readonly abi: string;

  constructor(abi = "proxy_abi_version_0_2_1") {
    this.abi = abi;
  }

  /** Pushes where a text stands, and its size. */
  text(value: string | Buffer): Code {
    const at = this.#data.length;
    const data = typeof value === "string" ? Buffer.from(value) : value;
    this.#data = [...this.#data, ...data];
    return [...i32(at), ...i32(data.length)];
  }
  /** Calls a host function; its status is on the stack. */
  call(name: string, args: readonly Code[], types: readonly ("i32" | "i64")[] = [], space = "env"): Code {
    let index = this.#imports.findIndex((one) => one.name === name && one.space === space);
    if (index < 0) {
      const count = types.length > 0 ? types : countOf(args);
      index = this.#imports.push({ space, name, signature: { parameters: count, result: true } }) - 1;
    }
    return [...args.flat(), 0x10, ...unsigned(index)];
  }
  log(value: string): Code {
    return [...this.call("proxy_log", [i32(2), this.text(value)]), ...drop];
  }
  export(name: string, parameters: number, result: boolean, ...code: Code[]): this {
    this.#functions.set(name, { parameters, result, code: code.flat() });
    return this;
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const functions = new Map(this.#functions);
    const add = (name: string, parameters: number, result: boolean, code: Code): void => {
      if (!functions.has(name)) functions.set(name, { parameters, result, code });
    };
    add(this.abi, 0, false, []);
    add("proxy_on_memory_allocate", 1, true, i32(32768));
    add("proxy_on_context_create", 2, false, []);
    const types: string[] = [];
    const typeOf = ({ parameters, result }: Signature): number => {
      const encoded = [0x60, ...vector(parameters.map((one) => [one === "i32" ? 0x7f : 0x7e])), ...vector(result ? [[0x7f]] : [])].join(",");
      if (!types.includes(encoded)) types.push(encoded);
      return types.indexOf(encoded);
    };
    const ints = (count: number): "i32"[] => new Array<"i32">(count).fill("i32");
    const imported = this.#imports.map(({ space, name, signature }) => [...text(space), ...text(name), 0, ...unsigned(typeOf(signature))]);
    const declared = [...functions.values()].map(({ parameters, result }) => unsigned(typeOf({ parameters: ints(parameters), result })));
    const exported = [[...text("memory"), 2, 0], ...[...functions.keys()].map((name, index) => [...text(name), 0, ...unsigned(this.#imports.length + index)])];
    const bodies = [...functions.values()].map(({ code }) => {
      const whole = [0, ...code, 0x0b];
      return [...unsigned(whole.length), ...whole];
    });
    return new Uint8Array([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, vector(types.map((one) => one.split(",").map(Number)))),
      ...section(2, vector(imported)),
      ...section(3, vector(declared)),
      ...section(5, vector([[0, 2]])),
      ...section(7, vector(exported)),
      ...section(10, vector(bodies)),
      ...section(11, vector([[0, ...i32(0), 0x0b, ...unsigned(this.#data.length), ...this.#data]])),
    ]);
  }
}

/** How many values the code of the arguments pushes: constants and parameters only. */
function countOf(args: readonly Code[]): "i32"[] {
  let count = 0;
  for (const code of args) {
    for (let at = 0; at < code.length; ) {
      const op = code[at++];
      if (op === 0x28) {
        at += 2;
        continue;
      }
      count++;
      while ((code[at++] & 128) !== 0);
    }
  }
  return new Array<"i32">(count).fill("i32");
}
