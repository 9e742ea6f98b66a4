/** body() and bodyChunks(): bytes for scripts. */
import { LuaError, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";

export class LuaBuffer extends LuaObject {
  readonly read: () => Buffer;
  /** Puts other bytes in the place of all. */
  readonly replace: (data: Buffer) => void;
  constructor(read: () => Buffer, replace: (data: Buffer) => void) {
    super(bufferClass);
    this.read = read;
    this.replace = replace;
  }
}

const bufferClass = luaClass<LuaBuffer>("N5Envoy10Extensions7Filters6Common3Lua13BufferWrapperE", {
  length: (self, call) => call.pushNumber(self.read().length),
  getBytes(self, call) {
    const index = call.integer(2);
    const length = call.integer(3);
    const data = self.read();
    if (index < 0 || length < 0 || index + length > data.length) throw new LuaError("index/length must be >= 0 and (index + length) must be <= buffer size");
    return call.pushBuffer(data.subarray(index, index + length));
  },
  setBytes(self, call) {
    const data = Buffer.from(call.string(2), "latin1");
    self.replace(data);
    return call.pushNumber(data.length);
  },
});
