import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { asLuaJit } from "./messages.ts";
import { type LuaCall, type LuaCoroutine, LuaError, LuaLoadError, LuaObject, type LuaResult, LuaVm, suspend } from "./vm.ts";
import { luaClass } from "./wrappers/define.ts";

const said: string[] = [];
class Thing extends LuaObject {}
const thingClass = luaClass<Thing>("Thing", {
  say(_self, call) {
    said.push(call.utf8(2));
    return 0;
  },
  wait: () => suspend,
  refuse() {
    throw new LuaError("no");
  },
  json: (_self, call) => call.pushJson(call.toJson(2, "test")),
});

function start(code: string, vm = new LuaVm()): { result: LuaResult; coroutine: LuaCoroutine; vm: LuaVm } {
  vm.load(`function main(t) ${code} end`);
  const ref = vm.globalFunction("main");
  assert.ok(ref !== undefined);
  const coroutine = vm.coroutine(ref);
  coroutine.stack.pushOwned(coroutine, new Thing(thingClass));
  return { result: coroutine.resume(1), coroutine, vm };
}
function run(code: string, vm?: LuaVm): string {
  said.length = 0;
  const { result } = start(code, vm);
  assert.deepEqual(result, { kind: "finished", returned: undefined, returnedType: -1 });
  return said.join("|");
}
function failure(code: string): string {
  const { result } = start(code);
  assert.equal(result.kind, "failed");
  return result.kind === "failed" ? result.message : "";
}

test("numbers are those of Lua 5.1", () => {
  assert.equal(run("t:say(10/2 .. ' ' .. 2^53 .. ' ' .. 1e15 .. ' ' .. 1/3 .. ' ' .. math.floor(3.7))"), "5 9.007199254741e+15 1e+15 0.33333333333333 3");
  assert.equal(run("t:say(('abcdef'):sub(1, 7/2) .. string.rep('x', 2.9) .. string.format('%d|%5.1f|%s', 3.7, 2.7, 4/2))"), "abcxx3|  2.7|2");
});

test("what LuaJIT has and Lua 5.4 lacks is there", () => {
  assert.equal(run("t:say(select('#', unpack({1, 2, 3})) .. table.getn({1, 2}) .. table.maxn({[7] = 1}) .. math.pow(2, 3) .. math.log10(100))"), "32782");
  assert.equal(
    run("t:say(bit.tohex(bit.band(0xff00ff00, 0x0ff00ff0)) .. bit.bnot(0) .. bit.lshift(1, 31) .. bit.ror(1, 1) .. bit.arshift(-8, 1) .. bit.rshift(-8, 1))"),
    "0f000f00-1-2147483648-2147483648-42147483644",
  );
  assert.equal(
    run("t:say(bit.bswap(0x12345678) .. ' ' .. bit.tobit(0xffffffff) .. ' ' .. bit.bxor(5, 1, 2) .. ' ' .. bit.rol(0x80000001, 1) .. bit.tohex(255, -2))"),
    "2018915346 -1 6 3FF",
  );
  assert.equal(run("local say = t.say setfenv(1, {}) say(t, tostring and 'yes' or 'no')"), "no");
  assert.equal(run("local f = setfenv(function() return x end, {x = 'own'}) t:say(f() .. tostring(getfenv(f).x) .. tostring(getfenv(0) == _G))"), "ownowntrue");
  assert.equal(run("for i = 1, 3 do if i == 2 then goto next end t:say(tostring(i)) ::next:: end"), "1|3");
  assert.equal(run("t:say(_VERSION .. tostring(utf8) .. tostring(string.pack) .. tostring(math.type) .. type(jit))"), "Lua 5.1nilnilniltable");
  assert.equal(run("local m, e = math.frexp(10) t:say(m .. ' ' .. e .. ' ' .. math.ldexp(m, e))"), "0.625 4 10");
  assert.equal(run("t:say(os.date('!%Y-%m-%dT%H:%M:%S', 86400.5) .. os.time({year = 1970, month = 1, day = 2, hour = 12}) % 100)"), "1970-01-02T00:00:000");
});

test("errors are in LuaJIT's words, caught or not", () => {
  const where = (code: string): string => `[string "function main(t) ${code.slice(0, 20)}`.slice(0, 20);
  for (const [code, text] of [
    ["local x x.y = 1", "attempt to index local 'x' (a nil value)"],
    ["foo()", "attempt to call global 'foo' (a nil value)"],
    ["('x'):bad()", "attempt to call method 'bad' (a nil value)"],
    ["local x = {} x = x.a .. 'b'", "attempt to concatenate field 'a' (a nil value)"],
    ["local x = #nil", "attempt to get length of a nil value"],
    ["local x = {} + 1", "attempt to perform arithmetic on a table value"],
    ["local x = 'a' < 1", "attempt to compare string with number"],
    ["t:say(nil)", "bad argument #1 to 'say' (string expected, got nil)"],
    ["t.say({})", "bad argument #1 to 'say' (Thing expected, got table)"],
    ["t:refuse()", "no"],
    ["string.rep()", "bad argument #1 to 'rep' (string expected, got no value)"],
  ]) {
    const message = failure(code);
    assert.ok(message.startsWith(where(code)) && message.endsWith(`:1: ${text}`), message);
    assert.ok(run(`local _, e = pcall(function() ${code} end) t:say(e)`).endsWith(text));
  }
  assert.equal(failure("error({})"), "unspecified lua error");
  assert.equal(failure("error('bare', 0)"), "bare");
  assert.throws(() => new LuaVm().load("function f("), new LuaLoadError(`[string "function f("]:1: <name> or '...' expected near '<eof>'`));
  for (const [code, text] of [
    ["local 5", "1: '<name>' expected near '5'"],
    ["goto x", "1: undefined label 'x'"],
    ["end", "1: '<eof>' expected near 'end'"],
    ["break", "1: no loop to break"],
    ["::a:: ::a::", "1: duplicate label 'a'"],
    ["--[[ open", "1: unfinished long comment near '<eof>'"],
  ])
    assert.throws(() => new LuaVm().load(code), new LuaLoadError(`[string "${code}"]:${text}`));
  assert.throws(
    () => new LuaVm().load("x ="),
    (error: Error) => error.message.endsWith("unexpected symbol near '<eof>'"),
  );
  assert.throws(() => new LuaVm().load("\x1bLua"), LuaLoadError, "precompiled code is not loaded");
});

test("a call may wait, also below pcall, iterators and metamethods, and objects end with the run", () => {
  const { coroutine, result } = start("t:wait() t:say('late')");
  assert.equal(result.kind, "suspended");
  const late = coroutine.resume(0);
  assert.ok(late.kind === "failed" && late.message.endsWith("object used outside of proper scope"), JSON.stringify(late));

  const vm = new LuaVm();
  vm.load(
    "function main(t) t:say(t:wait()) t:say(select(2, pcall(function() return t:wait() end))) for x in function() return t:wait() end do t:say(x) break end end",
  );
  const again = vm.coroutine(vm.globalFunction("main") as number);
  const thing = new Thing(thingClass);
  vm.register(thing, true);
  again.stack.pushObject(thing);
  said.length = 0;
  let step = again.resume(1);
  for (const text of ["one", "two", "three"]) {
    assert.equal(step.kind, "suspended");
    again.stack.pushString(text);
    step = again.resume(1);
  }
  assert.equal(step.kind, "finished");
  assert.deepEqual(said, ["one", "two", "three"]);
});

test("an endless script is ended, also one that catches the error; memory is bounded; deep recursion is an error", () => {
  assert.match(failure("while true do pcall(function() while true do end end) end"), /script ran for more than 1000 ms$/);
  assert.match(failure("local x = ('x'):rep(2^30)"), /not enough memory/);
  assert.match(failure("local function f() return f() + 1 end f()"), /stack overflow/);
  assert.match(failure("local function f() return pcall(f) end local s = f() error('end')"), /end$|stack overflow/);
  assert.match(failure("local t = {} setmetatable(t, {__index = function(a, b) return a[b + 1] end}) return t[1]"), /overflow/);
});

test("what reaches outside is not there", () => {
  assert.equal(
    run("t:say(tostring(os.execute) .. tostring(os.remove) .. tostring(io.popen) .. tostring(package.loadlib) .. tostring(debug.getregistry))"),
    "nilnilnilnilnil",
  );
  assert.match(failure("os.exit()"), /not available/);
  assert.equal(run("t:say(tostring(io.open('/nowhere/x')) .. tostring(select(2, io.open('/etc/passwd', 'w'))))"), "nil/etc/passwd: Permission denied");
  assert.match(failure("string.dump(print)"), /unable to dump/);
  assert.equal(run("t:say(tostring(loadstring('\\27Lua')))"), "nil");
});

test("values go over and back", () => {
  const jsonValue = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.boolean(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.string({ unit: "grapheme" }),
      fc.array(tie("value"), { minLength: 1, maxLength: 4 }),
      fc.dictionary(
        fc.string({ minLength: 1 }).filter((key) => key !== "__proto__"),
        tie("value"),
        { maxKeys: 4 },
      ),
    ),
  })).value;
  const vm = new LuaVm();
  vm.load("function main(t, v) return v end");
  const ref = vm.globalFunction("main") as number;
  fc.assert(
    fc.property(jsonValue, (value) => {
      const coroutine = vm.coroutine(ref);
      const stack: LuaCall = coroutine.stack;
      stack.pushJson(value);
      // Lua has no empty lists and no -0.
      assert.deepEqual(stack.toJson(-1, "test"), JSON.parse(JSON.stringify(value)));
      stack.pop();
      coroutine.drop();
    }),
    { numRuns: 200 },
  );
});

test("no program text and no message breaks the host", () => {
  const vm = new LuaVm();
  const word = fc.constantFrom(
    "local ",
    "x",
    "=",
    "(",
    ")",
    "function ",
    "end ",
    "do ",
    "while ",
    "true ",
    "t:say",
    "..",
    "'a'",
    "{",
    "}",
    "[",
    "]",
    "1",
    "nil ",
    "goto ",
    "::",
    "return ",
    ",",
    "--[[",
    "\\",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(word, { maxLength: 25 }).map((words) => words.join("")),
      ),
      (code) => {
        try {
          vm.load(`local function unused() ${code} end`);
        } catch (error) {
          assert.ok(error instanceof LuaLoadError, String(error));
        }
        assert.equal(vm.broken, false);
      },
    ),
    { numRuns: 300 },
  );
  fc.assert(fc.property(fc.string(), (text) => typeof asLuaJit(text) === "string"));
});
