/**
 * One Lua script in an interpreter of its own: loads it, runs functions as coroutines that host functions may suspend, and gives scripts
 * objects whose methods are ours. A script that errs, runs too long or takes too much memory harms nobody but itself.
 */
import { readFileSync } from "node:fs";
import { prelude, truncating } from "./dialect.ts";
import { LuaMachine, type Pointer } from "./machine.ts";
import { asLuaJit } from "./messages.ts";

export const luaType = { none: -1, nil: 0, boolean: 1, number: 3, string: 4, table: 5, function: 6, userdata: 7 } as const;
const typeNames: Readonly<Record<number, string>> = {
  [-1]: "no value",
  0: "nil",
  1: "boolean",
  2: "userdata",
  3: "number",
  4: "string",
  5: "table",
  6: "function",
  7: "userdata",
  8: "thread",
};
export function luaTypeName(type: number): string {
  return typeNames[type] ?? "userdata";
}

const registry = -1_001_000;
const upvalue = (index: number): number => registry - index;
const status = { ok: 0, yield: 1 } as const;
const countMask = 8;
/** Instructions between two looks at the clock. */
const hookInterval = 20_000;
/** How long a script may run at a stretch, milliseconds of CPU time; waiting is not running. */
export const maxRunMs = 1000;
/** Files that scripts read or require are at most this long, bytes. */
const maxFileBytes = 16 * 1024 * 1024;

/** An error for the script, raised at the place of its call. */
export class LuaError extends Error {}
/** The script called a function with a wrong argument. */
export class LuaArgumentError extends Error {
  readonly argument: number;
  constructor(argument: number, message: string) {
    super(message);
    this.argument = argument;
  }
}

/** The caller is suspended until the coroutine is resumed; its call then gives what it is resumed with. */
export const suspend = -1;

/** A method: `self` is argument 1. Pushes its results and says how many, or `suspend`. */
export type LuaMethod<T extends LuaObject = never> = (self: T, call: LuaCall) => number;
export interface LuaClass {
  /** How argument errors name the type. */
  readonly typeName: string;
  readonly methods: Readonly<Record<string, LuaMethod>>;
  /** Functions that methods push as closures (`LuaCall.pushClosure`). */
  readonly closures?: Readonly<Record<string, LuaMethod>>;
}

/** Something of ours that a script holds. When it is dead, a script that kept it gets an error. */
export class LuaObject {
  readonly class: LuaClass;
  alive = true;
  /** Number in the interpreter's table of objects; 0: not in it. */
  id = 0;
  constructor(luaClass: LuaClass) {
    this.class = luaClass;
  }
  /** It goes out of scope; what it gave out goes with it. */
  markDead(): void {
    this.alive = false;
  }
}

export type LuaResult =
  | { readonly kind: "finished"; readonly returned: string | undefined; readonly returnedType: number }
  | { readonly kind: "suspended" }
  | { readonly kind: "failed"; readonly message: string };

/** The script does not load: Envoy's text. */
export class LuaLoadError extends Error {}

export class LuaVm {
  readonly machine: LuaMachine;
  readonly state: Pointer;
  /** The interpreter itself failed; this object can do nothing any more. */
  broken = false;
  readonly #objects = new Map<number, LuaObject>();
  #lastId = 0;
  readonly #methods: { readonly luaClass: LuaClass | undefined; readonly method: LuaMethod; readonly closure: boolean }[] = [];
  readonly #metatables = new Map<LuaClass, number>();
  readonly #closureIds = new Map<LuaMethod, number>();
  readonly #dispatch: Pointer;
  #call: LuaCall;
  #owned: LuaObject[] | undefined = undefined;
  #deadline = 0;
  /** CPU time of this thread when the clock was first looked at in this run, milliseconds; undefined: it was not yet. */
  #cpuStart: number | undefined = undefined;
  #depth = 0;
  readonly #hook: Pointer;
  /** Coroutines that finished and can be used again: their states and where the registry holds them. */
  readonly #idle: { readonly L: Pointer; readonly ref: number }[] = [];

  constructor() {
    const machine = new LuaMachine();
    this.machine = machine;
    const { exports } = machine;
    this.state = exports.luaL_newstate();
    this.#call = new LuaCall(this, this.state);
    this.#dispatch = machine.addFunction((L) => this.#run(L));
    this.#hook = machine.addHook((L) => this.#onHook(L));
    exports.luaL_openlibs(this.state);
    this.#installPrelude();
    exports.lua_sethook(this.state, this.#hook, countMask, hookInterval);
  }

  /** Runs a chunk to its end. */
  load(code: string, name = code): void {
    const failure = this.#protect(() => {
      const bytes = Buffer.from(code, "utf8").toString("latin1");
      return this.#execute(bytes, name === code ? bytes : Buffer.from(name, "utf8").toString("latin1"), 0);
    });
    if (failure !== undefined) throw new LuaLoadError(failure);
  }

  /** A global function, to start coroutines with; undefined: there is none of that name. */
  globalFunction(name: string): number | undefined {
    const { exports } = this.machine;
    const type = exports.lua_getglobal(this.state, this.machine.place(name));
    if (type === luaType.function) return exports.luaL_ref(this.state, registry);
    exports.lua_settop(this.state, 0);
    return undefined;
  }

  setGlobalTable(name: string, values: Readonly<Record<string, number>>): void {
    const { exports } = this.machine;
    const call = new LuaCall(this, this.state);
    call.pushJson(values);
    exports.lua_setglobal(this.state, this.machine.place(name));
  }

  /** Where `require` looks before its other places: templates with "?". */
  addPackagePaths(paths: readonly string[]): void {
    if (paths.length > 0) this.load(`package.path = ${JSON.stringify(paths.join(";"))} .. ";" .. package.path`, "=package_paths");
  }

  coroutine(functionRef: number): LuaCoroutine {
    const { exports } = this.machine;
    let thread = this.#idle.pop();
    if (thread === undefined) {
      const L = exports.lua_newthread(this.state);
      thread = { L, ref: exports.luaL_ref(this.state, registry) };
    }
    exports.lua_rawgeti(thread.L, registry, BigInt(functionRef));
    return new LuaCoroutine(this, thread);
  }

  /** Gives an object a number; unless it is kept by its maker, it ends with the run of the script that gets it. */
  register(object: LuaObject, kept = false): void {
    if (object.id !== 0) return;
    if (!kept) this.#owned?.push(object);
    this.#lastId = this.#lastId >= 0x7ffffff0 ? 1 : this.#lastId + 1;
    object.id = this.#lastId;
    this.#objects.set(object.id, object);
  }
  /** Ends an object for good. */
  forget(object: LuaObject): void {
    object.markDead();
    if (object.id !== 0) this.#objects.delete(object.id);
    object.id = 0;
  }

  // ---- for LuaCall and LuaCoroutine

  objectAt(at: Pointer): LuaObject | undefined {
    return this.#objects.get(this.machine.bytes.readUInt32LE(at));
  }
  metatable(luaClass: LuaClass): number {
    return this.#metatables.get(luaClass) ?? this.#defineClass(luaClass);
  }
  closureId(method: LuaMethod): number {
    let id = this.#closureIds.get(method);
    if (id === undefined) {
      id = this.#methods.push({ luaClass: undefined, method, closure: true }) - 1;
      this.#closureIds.set(method, id);
    }
    return id;
  }
  get dispatcher(): Pointer {
    return this.#dispatch;
  }

  /** `owned` takes the objects that the script is given: they end with this run, as they hold what is true only now. */
  resume(thread: { readonly L: Pointer; readonly ref: number }, count: number, owned: LuaObject[]): LuaResult {
    const outer = this.#owned;
    this.#owned = owned;
    const result = this.#resume(thread, count);
    this.#owned = outer;
    for (const object of owned) this.forget(object);
    owned.length = 0;
    return result;
  }

  #resume(thread: { readonly L: Pointer; readonly ref: number }, count: number): LuaResult {
    const { L } = thread;
    const { exports, scratch } = this.machine;
    if (this.broken) return { kind: "failed", message: "the interpreter of this script has failed" };
    if (this.#depth === 0) this.#startClock();
    this.#depth++;
    let code: number;
    try {
      code = exports.lua_resume(L, this.state, count, scratch);
    } catch (error) {
      // A trap, or the stack of the thread ran out: what the interpreter was at is lost.
      this.broken = true;
      return { kind: "failed", message: `script failed: ${error instanceof Error ? error.message : String(error)}` };
    } finally {
      this.#depth--;
    }
    if (code === status.yield) {
      exports.lua_settop(L, 0);
      return { kind: "suspended" };
    }
    if (code === status.ok) {
      const results = this.machine.bytes.readInt32LE(scratch);
      const call = new LuaCall(this, L);
      const type = results > 0 ? exports.lua_type(L, -results) : luaType.none;
      const returned = type === luaType.string || type === luaType.number ? call.rawString(-results) : undefined;
      exports.lua_settop(L, 0);
      this.#release(thread);
      return { kind: "finished", returned, returnedType: type };
    }
    const type = exports.lua_type(L, -1);
    const message = type === luaType.string || type === luaType.number ? new LuaCall(this, L).rawString(-1) : undefined;
    this.abandon(thread);
    return { kind: "failed", message: message === undefined ? "unspecified lua error" : asLuaJit(Buffer.from(message, "latin1").toString("utf8")) };
  }

  /** A coroutine that is not resumed any more. */
  abandon(thread: { readonly L: Pointer; readonly ref: number }): void {
    if (this.broken) return;
    this.machine.exports.luaL_unref(this.state, registry, thread.ref);
  }

  #release(thread: { readonly L: Pointer; readonly ref: number }): void {
    if (this.#idle.length < 32) this.#idle.push(thread);
    else this.abandon(thread);
  }

  /** Calls of methods arrive here: the first upvalue says which. */
  #run(L: Pointer): number {
    const { exports } = this.machine;
    const { luaClass, method, closure } = this.#methods[exports.lua_tonumberx(L, upvalue(1), 0)];
    const outer = this.#call;
    const call = outer.L === L ? outer : new LuaCall(this, L);
    this.#call = call;
    let failure: unknown;
    let results = 0;
    try {
      if (luaClass === undefined && !closure) results = method(undefined as never, call);
      else results = method(call.self(closure ? upvalue(2) : 1, luaClass) as never, call);
    } catch (error) {
      failure = error;
    } finally {
      this.#call = outer;
    }
    // What follows may unwind the interpreter's stack by an exception of its own, which must pass.
    if (failure !== undefined) return raise(this, call, failure);
    return results === suspend ? exports.lua_yieldk(L, 0, 0, 0) : results;
  }

  #startClock(): void {
    this.#deadline = performance.now() + maxRunMs;
    this.#cpuStart = undefined;
  }

  #onHook(L: Pointer): void {
    this.#cpuStart ??= threadCpuMs();
    const now = performance.now();
    if (now < this.#deadline) return;
    // On a busy machine the thread may have waited for most of it.
    const left = maxRunMs - (threadCpuMs() - this.#cpuStart);
    if (left > 1) {
      this.#deadline = now + left;
      return;
    }
    // From now on each instruction asks again: a script that catches the error gets no further.
    this.machine.exports.lua_sethook(L, this.#hook, countMask, 1);
    raise(this, new LuaCall(this, L), new LuaError(`script ran for more than ${maxRunMs} ms`));
  }

  #defineClass(luaClass: LuaClass): number {
    const { exports } = this.machine;
    const L = this.state;
    const names = Object.keys(luaClass.methods);
    exports.lua_createtable(L, 0, names.length + 1);
    const call = new LuaCall(this, L);
    for (const name of names) {
      const id = this.#methods.push({ luaClass, method: luaClass.methods[name], closure: false }) - 1;
      call.pushString(name);
      exports.lua_pushnumber(L, id);
      exports.lua_pushcclosure(L, this.#dispatch, 1);
      exports.lua_rawset(L, -3);
    }
    call.pushString("__index");
    exports.lua_pushvalue(L, -2);
    exports.lua_rawset(L, -3);
    const ref = exports.luaL_ref(L, registry);
    this.#metatables.set(luaClass, ref);
    return ref;
  }

  #installPrelude(): void {
    const { exports } = this.machine;
    const L = this.state;
    const call = new LuaCall(this, L);
    for (const { table, name, from, to } of truncating) {
      if (table === "") {
        exports.lua_rawgeti(L, registry, 2n);
      } else exports.lua_getglobal(L, this.machine.place(table));
      call.pushString(name);
      call.pushString(name);
      exports.lua_rawget(L, -3);
      const original = exports.lua_tocfunction(L, -1);
      exports.lua_settop(L, -2);
      exports.lua_pushcclosure(
        L,
        this.machine.addFunction((at) => this.#truncated(at, original, from, to)),
        0,
      );
      exports.lua_rawset(L, -3);
      exports.lua_settop(L, 0);
    }
    exports.lua_getglobal(L, this.machine.place("string"));
    call.pushString("format");
    call.pushString("format");
    exports.lua_rawget(L, -3);
    const format = exports.lua_tocfunction(L, -1);
    exports.lua_settop(L, -2);
    exports.lua_pushcclosure(
      L,
      this.machine.addFunction((at) => this.#formatted(at, format)),
      0,
    );
    exports.lua_rawset(L, -3);
    exports.lua_settop(L, 0);
    const failure = this.#execute(prelude, "=prelude", 1, () => {
      exports.lua_createtable(L, 0, 3);
      const add = (name: string, method: (call: LuaCall) => number): void => {
        const id = this.#methods.push({ luaClass: undefined, method: (_self, inner) => method(inner), closure: false }) - 1;
        call.pushString(name);
        exports.lua_pushnumber(L, id);
        exports.lua_pushcclosure(L, this.#dispatch, 1);
        exports.lua_rawset(L, -3);
      };
      add("rewrite", (inner) => inner.pushString(toLatin1(asLuaJit(inner.utf8(1)))));
      add("readFile", (inner) => {
        const data = readScriptFile(inner.utf8(1));
        return data === undefined ? 0 : inner.pushString(data);
      });
      add("getenv", (inner) => {
        const value = process.env[inner.utf8(1)];
        return value === undefined ? 0 : inner.pushUtf8(value);
      });
    });
    if (failure !== undefined) throw new Error(`the dialect does not load: ${failure}`);
  }

  /** Cuts the fractions of some arguments off, then calls the library's function in the same frame. */
  #truncated(L: Pointer, original: Pointer, from: number, to: number): number {
    const { exports } = this.machine;
    const last = Math.min(exports.lua_gettop(L), to);
    for (let i = from; i <= last; i++) this.#truncate(L, i);
    return this.machine.callFunction(original, L);
  }
  #truncate(L: Pointer, index: number): void {
    const { exports } = this.machine;
    if (exports.lua_type(L, index) !== luaType.number) return;
    const value = exports.lua_tonumberx(L, index, 0);
    if (Number.isInteger(value) || !Number.isFinite(value)) return;
    exports.lua_pushnumber(L, Math.trunc(value));
    exports.lua_copy(L, -1, index);
    exports.lua_settop(L, -2);
  }
  #formatted(L: Pointer, original: Pointer): number {
    const { exports } = this.machine;
    const count = exports.lua_gettop(L);
    let form: string | undefined;
    for (let i = 2; i <= count; i++) {
      if (exports.lua_type(L, i) !== luaType.number || Number.isInteger(exports.lua_tonumberx(L, i, 0))) continue;
      if (exports.lua_type(L, 1) !== luaType.string) break;
      form ??= new LuaCall(this, L).rawString(1);
      const conversion = [...form.matchAll(/%(?:%|[-+ #0-9.]*([A-Za-z]))/g)].filter((match) => match[1] !== undefined)[i - 2]?.[1];
      if (conversion !== undefined && "dicuxXo".includes(conversion)) this.#truncate(L, i);
    }
    return this.machine.callFunction(original, L);
  }

  /** Loads and runs a chunk on the main thread of the interpreter; the error's text, or undefined. */
  #execute(code: string, name: string, args: number, push?: () => void): string | undefined {
    const { exports } = this.machine;
    const L = this.state;
    const nameAt = exports.malloc(name.length + 1);
    const { bytes } = this.machine;
    bytes.write(name, nameAt, "latin1");
    bytes[nameAt + name.length] = 0;
    const at = this.machine.place(code);
    let failed = exports.luaL_loadbufferx(L, at, code.length, nameAt, this.#textMode());
    exports.free(nameAt);
    if (failed === status.ok) {
      push?.();
      this.#startClock();
      this.#depth++;
      failed = exports.lua_pcallk(L, args, 0, 0, 0, 0);
      this.#depth--;
    }
    const message =
      failed === status.ok ? undefined : exports.lua_type(L, -1) === luaType.string ? new LuaCall(this, L).rawString(-1) : "unspecified lua error";
    exports.lua_settop(L, 0);
    return message === undefined ? undefined : asLuaJit(Buffer.from(message, "latin1").toString("utf8"));
  }
  #mode = 0;
  /** "t": source text only; precompiled code is not checked by the interpreter. */
  #textMode(): Pointer {
    if (this.#mode === 0) {
      this.#mode = this.machine.exports.malloc(2);
      this.machine.bytes[this.#mode] = 0x74;
      this.machine.bytes[this.#mode + 1] = 0;
    }
    return this.#mode;
  }
  #protect(work: () => string | undefined): string | undefined {
    try {
      return work();
    } catch (error) {
      this.broken = true;
      return error instanceof Error ? error.message : String(error);
    }
  }
}

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Leaves the C function that runs with an error; does not return. */
function raise(vm: LuaVm, call: LuaCall, failure: unknown): number {
  const { exports } = vm.machine;
  const { L } = call;
  if (failure instanceof LuaArgumentError) return exports.luaL_argerror(L, failure.argument, vm.machine.place(toLatin1(failure.message)));
  exports.luaL_where(L, 1);
  const where = call.rawString(-1);
  exports.lua_settop(L, -2);
  call.pushString(where + toLatin1(failure instanceof Error ? failure.message : String(failure)));
  return exports.lua_error(L);
}

export function toLatin1(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function readScriptFile(path: string): string | undefined {
  try {
    const data = readFileSync(path);
    return data.length > maxFileBytes ? undefined : data.toString("latin1");
  } catch {
    return undefined;
  }
}

/** One run of a function, from its start over all its waits to its end. */
export class LuaCoroutine {
  readonly #vm: LuaVm;
  readonly #thread: { readonly L: Pointer; readonly ref: number };
  readonly #owned: LuaObject[] = [];
  /** Its stack, to push the values that it is started or resumed with. */
  readonly stack: LuaCall;
  state: "new" | "running" | "suspended" | "done" = "new";

  constructor(vm: LuaVm, thread: { readonly L: Pointer; readonly ref: number }) {
    this.#vm = vm;
    this.#thread = thread;
    this.stack = new LuaCall(vm, thread.L);
  }

  /** `count` values were pushed: arguments at first, later the results of the call that waits. */
  resume(count: number): LuaResult {
    this.state = "running";
    const result = this.#vm.resume(this.#thread, count, this.#owned);
    this.state = result.kind === "suspended" ? "suspended" : "done";
    return result;
  }

  /** `object` ends with the next run. */
  own(object: LuaObject): void {
    if (object.id !== 0) return;
    this.#vm.register(object, true);
    this.#owned.push(object);
  }

  drop(): void {
    if (this.state === "done" || this.state === "running") return;
    this.state = "done";
    this.#vm.abandon(this.#thread);
  }
}

/** The stack of one coroutine during a call: arguments to read, results to push. Strings are latin1 (code units are bytes) unless said otherwise. */
export class LuaCall {
  readonly vm: LuaVm;
  readonly L: Pointer;

  constructor(vm: LuaVm, L: Pointer) {
    this.vm = vm;
    this.L = L;
  }

  get count(): number {
    return this.vm.machine.exports.lua_gettop(this.L);
  }
  type(index: number): number {
    return this.vm.machine.exports.lua_type(this.L, index);
  }
  isNone(index: number): boolean {
    return this.type(index) <= luaType.nil;
  }

  /** The object at `index`, which must be alive and of the class. */
  self(index: number, luaClass: LuaClass | undefined): LuaObject {
    const { vm } = this;
    const at = vm.machine.exports.lua_touserdata(this.L, index);
    const type = this.type(index);
    if (at === 0 || type !== luaType.userdata) throw new LuaArgumentError(1, `${luaClass?.typeName ?? "userdata"} expected, got ${luaTypeName(type)}`);
    const object = vm.objectAt(at);
    if (object === undefined || !object.alive) throw new LuaError("object used outside of proper scope");
    if (luaClass !== undefined && object.class !== luaClass) throw new LuaArgumentError(1, `${luaClass.typeName} expected, got userdata`);
    return object;
  }
  /** An argument that must be an object of the class. */
  object<T extends LuaObject>(index: number, luaClass: LuaClass): T {
    return this.self(index, luaClass) as T;
  }

  /** A string, or a number's text. */
  string(index: number): string {
    const type = this.type(index);
    if (type !== luaType.string && type !== luaType.number) this.#expected(index, "string", type);
    return this.rawString(index);
  }
  optionalString(index: number): string | undefined {
    return this.isNone(index) ? undefined : this.string(index);
  }
  utf8(index: number): string {
    return Buffer.from(this.string(index), "latin1").toString("utf8");
  }
  number(index: number): number {
    const { exports, scratch } = this.vm.machine;
    const value = exports.lua_tonumberx(this.L, index, scratch);
    if (value === 0 && this.vm.machine.bytes.readInt32LE(scratch) === 0) this.#expected(index, "number", this.type(index));
    return value;
  }
  /** A number without its fraction. */
  integer(index: number): number {
    return Math.trunc(this.number(index));
  }
  boolean(index: number): boolean {
    return this.vm.machine.exports.lua_toboolean(this.L, index) !== 0;
  }
  checkType(index: number, wanted: number): void {
    const type = this.type(index);
    if (type !== wanted) this.#expected(index, luaTypeName(wanted), type);
  }
  #expected(index: number, wanted: string, type: number): never {
    throw new LuaArgumentError(index, `${wanted} expected, got ${luaTypeName(type)}`);
  }

  /** The text of what stands at `index`, which is a string or a number. */
  rawString(index: number): string {
    const { machine } = this.vm;
    const at = machine.exports.lua_tolstring(this.L, index, machine.scratch);
    if (at === 0) return "";
    const { bytes } = machine;
    return bytes.toString("latin1", at, at + bytes.readUInt32LE(machine.scratch));
  }

  /** Goes through a table; in `visit` the key is at -2 and the value at -1. The key must not be read as a string where it is a number. */
  forEach(index: number, visit: () => void): void {
    const { exports } = this.vm.machine;
    const at = index < 0 ? exports.lua_gettop(this.L) + index + 1 : index;
    exports.lua_checkstack(this.L, 8);
    exports.lua_pushnil(this.L);
    while (exports.lua_next(this.L, at) !== 0) {
      visit();
      exports.lua_settop(this.L, -2);
    }
  }
  /** Pushes `table[key]` for the table at `index`; `pop` takes it off again. */
  field(index: number, key: string): void {
    const { exports } = this.vm.machine;
    const at = index < 0 ? exports.lua_gettop(this.L) + index + 1 : index;
    this.pushString(key);
    exports.lua_rawget(this.L, at);
  }
  item(index: number, key: number): void {
    this.vm.machine.exports.lua_rawgeti(this.L, index, BigInt(key));
  }
  pop(): void {
    this.vm.machine.exports.lua_settop(this.L, -2);
  }

  pushNil(): number {
    this.vm.machine.exports.lua_pushnil(this.L);
    return 1;
  }
  pushBoolean(value: boolean): number {
    this.vm.machine.exports.lua_pushboolean(this.L, value ? 1 : 0);
    return 1;
  }
  pushNumber(value: number): number {
    this.vm.machine.exports.lua_pushnumber(this.L, value);
    return 1;
  }
  pushString(text: string): number {
    const { machine } = this.vm;
    machine.exports.lua_pushlstring(this.L, machine.place(text), text.length);
    return 1;
  }
  pushUtf8(text: string): number {
    return this.pushString(toLatin1(text));
  }
  pushBuffer(data: Buffer): number {
    return this.pushString(data.toString("latin1", 0, data.length));
  }
  pushObject(object: LuaObject): number {
    const { vm } = this;
    const { exports } = vm.machine;
    vm.register(object);
    const metatable = vm.metatable(object.class);
    const at = exports.lua_newuserdatauv(this.L, 4, 0);
    vm.machine.bytes.writeUInt32LE(object.id, at);
    exports.lua_rawgeti(this.L, registry, BigInt(metatable));
    exports.lua_setmetatable(this.L, -2);
    return 1;
  }
  /** Pushes an object from outside a run of `coroutine`, for which it is: it ends with the run that follows. */
  pushOwned(coroutine: LuaCoroutine, object: LuaObject): number {
    coroutine.own(object);
    return this.pushObject(object);
  }
  /** A table of texts and lists of texts. */
  pushFields(values: Readonly<Record<string, string | readonly string[]>>): number {
    const { exports } = this.vm.machine;
    exports.lua_createtable(this.L, 0, 16);
    for (const name in values) {
      const value = values[name];
      this.pushString(name);
      if (typeof value === "string") this.pushString(value);
      else this.pushStrings(value);
      exports.lua_rawset(this.L, -3);
    }
    return 1;
  }
  /** A function that calls `method` with `self`. */
  pushClosure(self: LuaObject, method: LuaMethod): number {
    const { exports } = this.vm.machine;
    exports.lua_pushnumber(this.L, this.vm.closureId(method));
    this.pushObject(self);
    exports.lua_pushcclosure(this.L, this.vm.dispatcher, 2);
    return 1;
  }
  pushStrings(list: readonly string[]): number {
    const { exports } = this.vm.machine;
    exports.lua_createtable(this.L, list.length, 0);
    list.forEach((text, index) => {
      this.pushString(text);
      exports.lua_rawseti(this.L, -2, BigInt(index + 1));
    });
    return 1;
  }
  /** A value of google.protobuf.Value as Lua has it. */
  pushJson(value: unknown): number {
    const { exports } = this.vm.machine;
    if (value === null || value === undefined) return this.pushNil();
    if (typeof value === "number") return this.pushNumber(value);
    if (typeof value === "boolean") return this.pushBoolean(value);
    if (typeof value === "string") return this.pushUtf8(value);
    if (exports.lua_checkstack(this.L, 8) === 0) throw new LuaError("stack overflow");
    if (Array.isArray(value)) {
      exports.lua_createtable(this.L, value.length, 0);
      value.forEach((item, index) => {
        this.pushJson(item);
        exports.lua_rawseti(this.L, -2, BigInt(index + 1));
      });
      return 1;
    }
    const entries = Object.entries(value as object);
    exports.lua_createtable(this.L, 0, entries.length);
    for (const [key, item] of entries) {
      this.pushUtf8(key);
      this.pushJson(item);
      exports.lua_rawset(this.L, -3);
    }
    return 1;
  }

  /** The value at `index` as one of google.protobuf.Value; `what` is named in errors. Tables with keys 1..n only are lists. */
  toJson(index: number, what: string, depth = 0): unknown {
    const { exports } = this.vm.machine;
    const type = this.type(index);
    switch (type) {
      case luaType.nil:
        return null;
      case luaType.boolean:
        return this.boolean(index);
      case luaType.number:
        return exports.lua_tonumberx(this.L, index, 0);
      case luaType.string:
        return Buffer.from(this.rawString(index), "latin1").toString("utf8");
      case luaType.table:
        break;
      default:
        throw new LuaError(`unexpected type '${luaTypeName(type)}' in ${what}`);
    }
    if (depth > 100) throw new LuaError(`${what} is nested too deeply`);
    const at = index < 0 ? exports.lua_gettop(this.L) + index + 1 : index;
    let length = 0;
    this.forEach(at, () => {
      if (length < 0) return;
      const key = this.type(-2) === luaType.number ? exports.lua_tonumberx(this.L, -2, 0) : 0;
      length = Number.isInteger(key) && key >= 1 ? Math.max(length, key) : -1;
    });
    if (length > 0) {
      if (length > 1_000_000) throw new LuaError(`a list in ${what} is too long`);
      const list: unknown[] = [];
      for (let i = 1; i <= length; i++) {
        this.item(at, i);
        list.push(this.toJson(-1, what, depth + 1));
        this.pop();
      }
      return list;
    }
    const object: Record<string, unknown> = {};
    this.forEach(at, () => {
      const keyType = this.type(-2);
      if (keyType !== luaType.string) throw new LuaError(`unexpected type ${luaTypeName(keyType)} in table key (only string keys are supported)`);
      Object.defineProperty(object, Buffer.from(this.rawString(-2), "latin1").toString("utf8"), {
        value: this.toJson(-1, what, depth + 1),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    });
    return object;
  }
}
