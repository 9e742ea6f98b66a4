/** What all of Envoy's Lua objects have: logging. */
import { getLogger, type Logger } from "../../../log/log.ts";
import type { LuaCall, LuaClass, LuaMethod, LuaObject } from "../vm.ts";

export const log: Logger = getLogger("lua");

function at(write: (message: string) => void): LuaMethod<LuaObject> {
  return (_self, call: LuaCall) => {
    write(`script log: ${call.utf8(2)}`);
    return 0;
  };
}

const logging: Readonly<Record<string, LuaMethod<LuaObject>>> = {
  logTrace: at((message) => log.trace(message)),
  logDebug: at((message) => log.debug(message)),
  logInfo: at((message) => log.info(message)),
  logWarn: at((message) => log.warning(message)),
  logErr: at((message) => log.error(message)),
  logCritical: at((message) => log.critical(message)),
};

/** A class as Lua sees it. `typeName` stands in argument errors. */
export function luaClass<T extends LuaObject>(typeName: string, methods: Readonly<Record<string, LuaMethod<T>>>): LuaClass {
  return { typeName, methods: { ...logging, ...methods } as LuaClass["methods"] };
}
