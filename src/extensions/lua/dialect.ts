/**
 * What scripts written for LuaJIT (Lua 5.1 with parts of 5.2) find different in Lua 5.4, put back: functions that went, numbers with a
 * fraction where an integer is wanted, and error texts. Runs once in each interpreter, before the script.
 */

/** Functions whose numeric arguments lose their fraction, as in C: which arguments, the first is 1. */
export const truncating: readonly { readonly table: string; readonly name: string; readonly from: number; readonly to: number }[] = [
  { table: "string", name: "byte", from: 2, to: 3 },
  { table: "string", name: "char", from: 1, to: 250 },
  { table: "string", name: "find", from: 3, to: 3 },
  { table: "string", name: "match", from: 3, to: 3 },
  { table: "string", name: "rep", from: 2, to: 2 },
  { table: "string", name: "sub", from: 2, to: 3 },
  { table: "table", name: "concat", from: 3, to: 4 },
  { table: "table", name: "remove", from: 2, to: 2 },
  { table: "table", name: "unpack", from: 2, to: 3 },
  { table: "math", name: "random", from: 1, to: 2 },
  { table: "os", name: "date", from: 2, to: 2 },
  { table: "", name: "select", from: 1, to: 1 },
];

/**
 * Lua source. `host` holds: rewrite(text), an error's text in LuaJIT's words; readFile(path), its contents or nothing; getenv(name).
 * Chunks are text only: precompiled code could break the interpreter.
 */
export const prelude = `
local host = ...
local load, type, select, error, floor = load, type, select, error, math.floor
local debug, coroutine, string, table, math = debug, coroutine, string, table, math
local getinfo, getupvalue, upvaluejoin, upvalueid = debug.getinfo, debug.getupvalue, debug.upvaluejoin, debug.upvalueid
local rewrite = host.rewrite
local G = _G

_VERSION = "Lua 5.1"
jit = { version = "LuaJIT 2.1.ROLLING", version_num = 20199, arch = "x64", os = "Linux",
  status = function() return false end, on = function() end, off = function() end, flush = function() end }
package.loaded.jit = jit

-- errors
local function fixed(ok, first, ...)
  if not ok and type(first) == "string" then return ok, rewrite(first), ... end
  return ok, first, ...
end
local pcall5, xpcall5, resume5 = pcall, xpcall, coroutine.resume
function pcall(...) return fixed(pcall5(...)) end
function xpcall(f, handler, ...)
  return xpcall5(f, function(e) if type(e) == "string" then e = rewrite(e) end return handler(e) end, ...)
end
function coroutine.resume(...) return fixed(resume5(...)) end
coroutine.close = nil

-- chunks
local function loadText(chunk, name, _, env)
  local f, e
  if env == nil then f, e = load(chunk, name, "t") else f, e = load(chunk, name, "t", env) end
  if f then return f end
  return nil, rewrite(e)
end
function G.load(chunk, name, mode, ...)
  if select("#", ...) > 0 then return loadText(chunk, name, mode, (...)) end
  return loadText(chunk, name)
end
function loadstring(text, name) return loadText(text, name or text) end
function loadfile(path)
  local text = host.readFile(path)
  if not text then return nil, "cannot open " .. tostring(path) end
  return loadText(text:gsub("^#[^\\n]*", ""), "@" .. path)
end
function dofile(path)
  local f, e = loadfile(path)
  if not f then error(e, 0) end
  return f()
end
string.dump = function() error("unable to dump given function", 2) end

-- environments
local function functionAt(f, level)
  if type(f) == "function" then return f end
  local info = getinfo(level + (f == nil and 1 or f), "f")
  if not info then error("bad argument #1 to 'setfenv' (invalid level)", level) end
  return info.func
end
local function environmentOf(f)
  for i = 1, 255 do
    local name = getupvalue(f, i)
    if name == nil then return nil end
    if name == "_ENV" then return i end
  end
end
function setfenv(f, env)
  if f == 0 then return end
  local target = functionAt(f, 2)
  local i = environmentOf(target)
  if i then upvaluejoin(target, i, function() return env end, 1) end
  return target
end
function getfenv(f)
  if f == 0 then return G end
  local target = functionAt(f, 2)
  local i = environmentOf(target)
  if not i then return G end
  local _, env = getupvalue(target, i)
  return env
end
debug.setfenv, debug.getfenv = setfenv, getfenv

-- libraries
unpack = table.unpack
utf8, warn = nil, nil
package.loaded.utf8 = nil
string.pack, string.unpack, string.packsize = nil, nil, nil
math.tointeger, math.type, math.ult, math.maxinteger, math.mininteger = nil, nil, nil, nil, nil
function table.getn(t) return #t end
function table.maxn(t)
  local max = 0
  for k in next, t do if type(k) == "number" and k > max then max = k end end
  return max
end
function table.foreach(t, f)
  for k, v in next, t do local r = f(k, v) if r ~= nil then return r end end
end
function table.foreachi(t, f)
  for i = 1, #t do local r = f(i, t[i]) if r ~= nil then return r end end
end
function math.pow(a, b) return a ^ b end
function math.log10(x) return math.log(x, 10) end
function math.atan2(y, x) return math.atan(y, x) end
function math.cosh(x) return (math.exp(x) + math.exp(-x)) / 2 end
function math.sinh(x) return (math.exp(x) - math.exp(-x)) / 2 end
function math.tanh(x)
  if x > 20 then return 1 elseif x < -20 then return -1 end
  local a, b = math.exp(x), math.exp(-x)
  return (a - b) / (a + b)
end
function math.ldexp(m, e) return m * 2.0 ^ e end
function math.frexp(x)
  if x == 0 or x ~= x or x == math.huge or x == -math.huge then return x, 0 end
  local e = floor(math.log(math.abs(x), 2)) + 1
  local m = x / 2.0 ^ e
  if math.abs(m) >= 1 then m, e = m / 2, e + 1 elseif math.abs(m) < 0.5 then m, e = m * 2, e - 1 end
  return m, e
end
function gcinfo() return floor(collectgarbage("count")) end
function newproxy() error("newproxy is not available", 2) end

-- bits: numbers are taken modulo 2^32 and come back signed
local function bits(x)
  local n = tonumber(x)
  if not n then error("bad argument (number expected, got " .. type(x) .. ")", 3) end
  if n ~= n or n == math.huge or n == -math.huge then return 0 end
  return floor((n + 0.5) % 4294967296.0) | 0
end
local function signed(n)
  n = n & 0xffffffff
  if n >= 0x80000000 then n = n - 0x100000000 end
  return n
end
local bit = {}
function bit.tobit(x) return signed(bits(x)) end
function bit.bnot(x) return signed(~bits(x)) end
function bit.band(x, ...) local r = bits(x) for i = 1, select("#", ...) do r = r & bits((select(i, ...))) end return signed(r) end
function bit.bor(x, ...) local r = bits(x) for i = 1, select("#", ...) do r = r | bits((select(i, ...))) end return signed(r) end
function bit.bxor(x, ...) local r = bits(x) for i = 1, select("#", ...) do r = r ~ bits((select(i, ...))) end return signed(r) end
function bit.lshift(x, n) return signed(bits(x) << (bits(n) & 31)) end
function bit.rshift(x, n) return signed(bits(x) >> (bits(n) & 31)) end
function bit.arshift(x, n)
  local v, s = bits(x), bits(n) & 31
  local r = v >> s
  if v >= 0x80000000 then r = r | ~(0xffffffff >> s) end
  return signed(r)
end
function bit.rol(x, n) local v, s = bits(x), bits(n) & 31 return signed((v << s) | (v >> (32 - s))) end
function bit.ror(x, n) local v, s = bits(x), bits(n) & 31 return signed((v >> s) | (v << (32 - s))) end
function bit.bswap(x)
  local v = bits(x)
  return signed((v >> 24) | ((v >> 8) & 0xff00) | ((v << 8) & 0xff0000) | (v << 24))
end
function bit.tohex(x, n)
  n = n and bits(n) or 8
  local v, form = bits(x), "%08x"
  if n >= 0x80000000 then n, form = 0x100000000 - n, "%08X" end
  if n > 8 then n = 8 end
  return n == 0 and "" or form:format(v):sub(-n)
end
-- Its own name is none of LuaJIT's globals: it comes from require("bit") or the global table.
G.bit = bit
package.loaded.bit = bit

-- modules
package.cpath = ""
package.loadlib, package.searchers[3], package.searchers[4] = nil, nil, nil
package.searchers[2] = function(name)
  local tried = {}
  for template in package.path:gmatch("[^;]+") do
    local path = template:gsub("%?", (name:gsub("%.", "/")))
    local text = host.readFile(path)
    if text then
      local f, e = loadText(text, "@" .. path)
      if not f then error("error loading module '" .. name .. "' from file '" .. path .. "':\\n\\t" .. e, 0) end
      return f, path
    end
    tried[#tried + 1] = "\\n\\tno file '" .. path .. "'"
  end
  return table.concat(tried)
end
package.loaders = package.searchers
function package.searchpath(name, path)
  for template in path:gmatch("[^;]+") do
    local file = template:gsub("%?", (name:gsub("%.", "/")))
    if host.readFile(file) then return file end
  end
  return nil
end

-- the system: files can be read, nothing else is reached
os.execute, os.remove, os.rename, os.tmpname = nil, nil, nil, nil
function os.getenv(name) return host.getenv(name) end
function os.exit() error("os.exit is not available to scripts", 2) end
local write = io.write
local function opened(path, text)
  local at = 1
  local file = {}
  local function one(_, form)
    if form == nil then form = "*l" end
    if type(form) == "number" then
      if at > #text and form > 0 then return nil end
      local part = text:sub(at, at + form - 1)
      at = at + #part
      return part
    end
    form = form:gsub("^%*", "")
    if form == "a" then local part = text:sub(at) at = #text + 1 return part end
    if at > #text then return nil end
    if form == "n" then
      local from, to = text:find("^%s*[-+]?[%d.]+[eE]?[-+]?%d*", at)
      if not from then return nil end
      at = to + 1
      return tonumber((text:sub(from, to)))
    end
    local stop = text:find("\\n", at, true)
    local line = text:sub(at, stop and (form == "L" and stop or stop - 1) or #text)
    at = (stop or #text) + 1
    return line
  end
  function file.read(self, ...)
    if select("#", ...) <= 1 then return one(self, (...)) end
    local got = {}
    for i = 1, select("#", ...) do got[i] = one(self, (select(i, ...))) end
    return table.unpack(got, 1, select("#", ...))
  end
  function file.lines(self) return function() return one(self) end end
  function file.seek(_, whence, offset)
    whence, offset = whence or "cur", offset or 0
    at = (whence == "set" and 1 or whence == "end" and #text + 1 or at) + offset
    return at - 1
  end
  function file.close() return true end
  function file.write() return nil, path .. ": files can only be read", 9 end
  file.setvbuf, file.flush = file.close, file.close
  return setmetatable(file, { __name = "FILE*", __gc = nil, __close = nil })
end
io = {
  write = write,
  type = function(f) local m = getmetatable(f) return m and m.__name == "FILE*" and "file" or nil end,
  open = function(path, mode)
    if mode and not mode:match("^rb?$") then return nil, path .. ": Permission denied", 13 end
    local text = host.readFile(path)
    if not text then return nil, path .. ": No such file or directory", 2 end
    return opened(path, text)
  end,
  lines = function(path)
    local text = host.readFile(path)
    if not text then error(path .. ": No such file or directory", 2) end
    return opened(path, text):lines()
  end,
  close = function() return true end,
}
package.loaded.io = io

-- the step counter that ends endless scripts is not the script's to change
debug.sethook, debug.gethook, debug.debug, debug.getregistry = function() end, function() end, nil, nil
debug.setcstacklimit, debug.setuservalue, debug.upvalueid = nil, nil, upvalueid
`;
