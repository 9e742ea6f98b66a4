/**
 * A Lua interpreter in memory of its own: an instance of the WebAssembly module that the package `wasmoon` ships (Lua 5.4 in C, compiled), with
 * the few system calls that it asks for. No file and no process can be reached from inside, memory is bounded, and an instance that
 * broke is thrown away whole.
 */
import { readFileSync, writeSync } from "node:fs";
import { formatTime, readTime, writeTime } from "./time.ts";

/** Pointers and Lua states are addresses in the instance's memory. */
export type Pointer = number;

/** The functions of Lua's C interface that are used here, as they are exported. */
export interface LuaExports {
  readonly memory: WebAssembly.Memory;
  readonly __indirect_function_table: WebAssembly.Table;
  __wasm_call_ctors(): void;
  malloc(size: number): Pointer;
  free(at: Pointer): void;
  setThrew(threw: number, value: number): void;
  stackSave(): Pointer;
  stackRestore(at: Pointer): void;
  luaL_newstate(): Pointer;
  luaL_openlibs(L: Pointer): void;
  luaL_loadbufferx(L: Pointer, text: Pointer, size: number, name: Pointer, mode: Pointer): number;
  luaL_ref(L: Pointer, table: number): number;
  luaL_unref(L: Pointer, table: number, ref: number): void;
  luaL_where(L: Pointer, level: number): void;
  luaL_argerror(L: Pointer, argument: number, message: Pointer): number;
  luaL_tolstring(L: Pointer, index: number, length: Pointer): Pointer;
  lua_newthread(L: Pointer): Pointer;
  lua_resetthread(L: Pointer): number;
  lua_resume(L: Pointer, from: Pointer, count: number, results: Pointer): number;
  lua_yieldk(L: Pointer, results: number, context: number, continuation: Pointer): number;
  lua_pcallk(L: Pointer, count: number, results: number, handler: number, context: number, continuation: Pointer): number;
  lua_error(L: Pointer): number;
  lua_sethook(L: Pointer, hook: Pointer, mask: number, count: number): void;
  lua_gettop(L: Pointer): number;
  lua_settop(L: Pointer, index: number): void;
  lua_checkstack(L: Pointer, slots: number): number;
  lua_pushvalue(L: Pointer, index: number): void;
  lua_copy(L: Pointer, from: number, to: number): void;
  lua_rotate(L: Pointer, index: number, count: number): void;
  lua_xmove(from: Pointer, to: Pointer, count: number): void;
  lua_type(L: Pointer, index: number): number;
  lua_tocfunction(L: Pointer, index: number): Pointer;
  lua_touserdata(L: Pointer, index: number): Pointer;
  lua_toboolean(L: Pointer, index: number): number;
  lua_tonumberx(L: Pointer, index: number, isNumber: Pointer): number;
  lua_tolstring(L: Pointer, index: number, length: Pointer): Pointer;
  lua_pushnil(L: Pointer): void;
  lua_pushboolean(L: Pointer, value: number): void;
  lua_pushnumber(L: Pointer, value: number): void;
  lua_pushlstring(L: Pointer, at: Pointer, length: number): Pointer;
  lua_pushcclosure(L: Pointer, fn: Pointer, upvalues: number): void;
  lua_createtable(L: Pointer, list: number, named: number): void;
  lua_newuserdatauv(L: Pointer, size: number, values: number): Pointer;
  lua_setmetatable(L: Pointer, index: number): number;
  lua_next(L: Pointer, index: number): number;
  lua_rawget(L: Pointer, index: number): number;
  lua_rawset(L: Pointer, index: number): void;
  lua_rawgeti(L: Pointer, index: number, key: bigint): number;
  lua_rawseti(L: Pointer, index: number, key: bigint): void;
  lua_getglobal(L: Pointer, name: Pointer): number;
  lua_setglobal(L: Pointer, name: Pointer): void;
}

/** What one interpreter may grow to, bytes. More is "not enough memory", which a script can catch. */
export const maxMemoryBytes = 256 * 1024 * 1024;

const pageBytes = 65536;
/** Emscripten's error numbers. */
const notImplemented = -52;
const noSuchFile = -44;

let compiled: WebAssembly.Module | undefined;
function interpreter(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(readFileSync(new URL("glue.wasm", import.meta.resolve("wasmoon"))));
  return compiled;
}

/** Modules that do nothing but give a JavaScript function a type, so that it can stand in the function table. */
const typed = {
  /** (i32) -> i32, as lua_CFunction. */
  function: new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 2, 7, 1, 1, 101, 1, 102, 0, 0, 7, 5, 1, 1, 102, 0, 0]),
  /** (i32, i32) -> (), as lua_Hook. */
  hook: new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 2, 127, 127, 0, 2, 7, 1, 1, 101, 1, 102, 0, 0, 7, 5, 1, 1, 102, 0, 0]),
};
const typedModules = new Map<keyof typeof typed, WebAssembly.Module>();

/** Thrown by the interpreter to unwind to its last protected call: C's longjmp. Only the interpreter's own frames may catch it. */
const longJump = Number.POSITIVE_INFINITY;

export class LuaMachine {
  readonly exports: LuaExports;
  /** Room for a size_t or int that a call returns through a pointer. */
  readonly scratch: Pointer;
  #bytes: Buffer;
  #textAt: Pointer;
  #textRoom = 4096;

  constructor() {
    const module = interpreter();
    const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
    const system = this.#system();
    for (const { module: space, name } of WebAssembly.Module.imports(module)) {
      imports[space] ??= {};
      imports[space][name] = system[name] ?? (() => notImplemented);
    }
    this.exports = new WebAssembly.Instance(module, imports).exports as unknown as LuaExports;
    this.#bytes = Buffer.from(this.exports.memory.buffer);
    this.exports.__wasm_call_ctors();
    this.scratch = this.exports.malloc(8);
    this.#textAt = this.exports.malloc(this.#textRoom);
    this.#printWholeNumbersBare();
  }

  /** The instance's memory; a view that is good until the next call into the interpreter. */
  get bytes(): Buffer {
    if (this.#bytes.byteLength !== this.exports.memory.buffer.byteLength) this.#bytes = Buffer.from(this.exports.memory.buffer);
    return this.#bytes;
  }

  /** A function for Lua to call. It returns how many results it pushed. */
  addFunction(call: (L: Pointer) => number): Pointer {
    return this.#add("function", call);
  }
  addHook(call: (L: Pointer, event: Pointer) => void): Pointer {
    return this.#add("hook", call);
  }
  /** Calls a function of the interpreter by its address, in the frame of the C function that runs now. */
  callFunction(at: Pointer, L: Pointer): number {
    return (this.exports.__indirect_function_table.get(at) as (L: Pointer) => number)(L);
  }

  /** Puts text (latin1: code units are bytes) where the interpreter can read it until the next call of this method; a zero byte follows. */
  place(text: string): Pointer {
    if (text.length >= this.#textRoom) {
      this.exports.free(this.#textAt);
      this.#textRoom = 2 ** Math.ceil(Math.log2(text.length + 1));
      this.#textAt = this.exports.malloc(this.#textRoom);
      if (this.#textAt === 0) {
        this.#textRoom = 0;
        throw new RangeError("not enough memory");
      }
    }
    const { bytes } = this;
    const at = this.#textAt;
    bytes.write(text, at, "latin1");
    bytes[at + text.length] = 0;
    return at;
  }

  #add(kind: keyof typeof typed, call: WebAssembly.ImportValue): Pointer {
    let module = typedModules.get(kind);
    if (module === undefined) typedModules.set(kind, (module = new WebAssembly.Module(typed[kind])));
    const table = this.exports.__indirect_function_table;
    const at = table.grow(1);
    table.set(at, new WebAssembly.Instance(module, { e: { f: call } }).exports.f);
    return at;
  }

  /**
   * Lua 5.1 knows one kind of number, and prints 10/2 as "5"; 5.4 prints floats that are whole with ".0" behind, where their text has no
   * character but those of this list. An empty list makes it leave them as they are.
   */
  #printWholeNumbersBare(): void {
    const { bytes } = this;
    const list = bytes.indexOf("\0-0123456789\0", 0, "latin1");
    if (list < 0) throw new Error("this build of Lua is not the one that is known here");
    bytes[list + 1] = 0;
  }

  #system(): Record<string, WebAssembly.ImportValue> {
    const view = (): DataView => new DataView(this.exports.memory.buffer);
    const stop = (): never => {
      throw new Error("the interpreter gave up");
    };
    return {
      invoke_vii: (index: number, a: number, b: number) => {
        const { exports } = this;
        const stack = exports.stackSave();
        try {
          (exports.__indirect_function_table.get(index) as (a: number, b: number) => void)(a, b);
        } catch (error) {
          if (error !== longJump) throw error;
          exports.stackRestore(stack);
          exports.setThrew(1, 0);
        }
      },
      _emscripten_throw_longjmp: () => {
        throw longJump;
      },
      abort: stop,
      exit: stop,
      system: () => -1,
      emscripten_date_now: () => Date.now(),
      emscripten_get_now: () => performance.now(),
      _emscripten_get_now_is_monotonic: () => 1,
      emscripten_resize_heap: (wanted: number) => {
        const { memory } = this.exports;
        const size = wanted >>> 0;
        if (size > maxMemoryBytes) return 0;
        try {
          // Some more than asked for, so that it does not grow page by page.
          const target = Math.min(maxMemoryBytes, Math.max(size, memory.buffer.byteLength * 1.25));
          memory.grow(Math.ceil((target - memory.buffer.byteLength) / pageBytes));
          return 1;
        } catch {
          return 0;
        }
      },
      environ_sizes_get: (count: Pointer, size: Pointer) => {
        view().setUint32(count, 0, true);
        view().setUint32(size, 0, true);
        return 0;
      },
      environ_get: () => 0,
      __syscall_openat: () => noSuchFile,
      fd_close: () => 0,
      fd_read: (_file: number, _vectors: Pointer, _count: number, read: Pointer) => {
        view().setUint32(read, 0, true);
        return 0;
      },
      fd_write: (file: number, vectors: Pointer, count: number, written: Pointer) => {
        const memory = view();
        let total = 0;
        for (let i = 0; i < count; i++) {
          const at = memory.getUint32(vectors + i * 8, true);
          const length = memory.getUint32(vectors + i * 8 + 4, true);
          if (file === 1 || file === 2) writeOut(file, this.bytes.subarray(at, at + length));
          total += length;
        }
        memory.setUint32(written, total, true);
        return 0;
      },
      _gmtime_js: (seconds: bigint, at: Pointer) => writeTime(view(), at, Number(seconds), true),
      _localtime_js: (seconds: bigint, at: Pointer) => writeTime(view(), at, Number(seconds), false),
      _mktime_js: (at: Pointer) => {
        const seconds = readTime(view(), at);
        writeTime(view(), at, seconds, false);
        return BigInt(seconds);
      },
      strftime: (out: Pointer, room: number, format: Pointer, at: Pointer) => {
        const { bytes } = this;
        const text = formatTime(bytes.toString("latin1", format, bytes.indexOf(0, format)), view(), at);
        if (text.length + 1 > room) return 0;
        bytes.write(text, out, "latin1");
        bytes[out + text.length] = 0;
        return text.length;
      },
    };
  }
}

/** What scripts print goes where Envoy's goes. A reader that is slow or gone loses it. */
function writeOut(file: number, data: Buffer): void {
  try {
    writeSync(file, data);
  } catch {
    // Nothing to be done: it is the output itself that fails.
  }
}
