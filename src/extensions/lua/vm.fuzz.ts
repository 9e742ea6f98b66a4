/** Any text as a script: it is refused with a LuaLoadError, or runs and leaves the interpreter and this process as they were. */
import type { FuzzTarget } from "../../testing/fuzz.ts";
import { LuaLoadError, LuaObject, LuaVm } from "./vm.ts";
import { LuaBuffer } from "./wrappers/buffer.ts";
import { luaClass } from "./wrappers/define.ts";

const handleClass = luaClass<LuaObject>("Handle", {
  json: (_self, call) => call.pushJson(call.toJson(2, "fuzz")),
  buffer: (_self, call) =>
    call.pushObject(
      new LuaBuffer(
        () => Buffer.from("body"),
        () => {},
      ),
    ),
  number: (_self, call) => call.pushNumber(call.number(2)),
  fields(_self, call) {
    call.checkType(2, 5);
    call.forEach(2, () => call.string(-1));
    return 0;
  },
});

let vm = new LuaVm();

const target: FuzzTarget = {
  maxBytes: 400,
  seeds: [
    "return h:json({1, {a = 'x'}, b = false})",
    "for i = 1, 10 do h:number(i) end",
    "local b = h:buffer() return b:getBytes(0, b:length())",
    "local ok, e = pcall(h.fields, h, {x = 'y', [1] = 2}) return e",
    "setfenv(1, {h = h}) return getfenv(1)",
    "return bit.band(1, 2), string.format('%5.1f %q', 1.5, 'x'), unpack({1, 2})",
    "return coroutine.wrap(function() coroutine.yield(h) end)()",
  ],
  dictionary: [
    "h:json(",
    "h:fields(",
    "h.number",
    "pcall(",
    "setmetatable(",
    "__index",
    "debug.",
    "string.rep(",
    "coroutine.",
    "getmetatable(h)",
    "error(",
    "goto ",
    "end ",
    "function()",
  ],
  run(input) {
    if (vm.broken) vm = new LuaVm();
    try {
      vm.load(`function fuzzed(h) ${Buffer.from(input).toString("utf8")}\nend`);
    } catch (error) {
      if (error instanceof LuaLoadError) return;
      throw error;
    }
    const main = vm.globalFunction("fuzzed");
    if (main === undefined) return;
    const coroutine = vm.coroutine(main);
    coroutine.stack.pushOwned(coroutine, new LuaObject(handleClass));
    coroutine.resume(1);
    coroutine.drop();
  },
};
export default target;
