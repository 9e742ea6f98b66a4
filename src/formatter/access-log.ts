/** A list of access logs, compiled into one. */
import type { AccessLog } from "../config/schema/types/envoy.config.accesslog.v3.d.ts";
import type { AccessLogger, CompileContext, Honours } from "../extensions/extension.ts";
import { type AccessLogTest, compileAccessLogFilter } from "./access-log-filter.ts";
import type { FormatContext } from "./formatter.ts";

export const honours: Honours = { "envoy.config.accesslog.v3.AccessLog": "*" };

class FilteredLogger implements AccessLogger {
  readonly #test: AccessLogTest;
  readonly #logger: AccessLogger;
  constructor(test: AccessLogTest, logger: AccessLogger) {
    this.#test = test;
    this.#logger = logger;
  }
  log(context: FormatContext): void {
    if (this.#test(context)) this.#logger.log(context);
  }
}

class SeveralLoggers implements AccessLogger {
  readonly #loggers: readonly AccessLogger[];
  constructor(loggers: readonly AccessLogger[]) {
    this.#loggers = loggers;
  }
  log(context: FormatContext): void {
    for (const logger of this.#loggers) logger.log(context);
  }
}

/** Logs nothing. Compare with it to leave out work that only logs need. */
export const noAccessLog: AccessLogger = { log: () => {} };

export function compileAccessLogs(list: readonly AccessLog[], context: CompileContext): AccessLogger {
  const loggers: AccessLogger[] = [];
  for (const message of list) {
    const test = message.filter === undefined ? undefined : compileAccessLogFilter(message.filter, context);
    const extension = context.extension("envoy.access_loggers", message.configType.value, message, "typed_config", message.name);
    if (extension?.accessLogger === undefined || message.configType.value === undefined) continue;
    const logger = extension.accessLogger.compile(message.configType.value, context);
    loggers.push(test === undefined ? logger : new FilteredLogger(test, logger));
  }
  if (loggers.length === 0) return noAccessLog;
  return loggers.length === 1 ? loggers[0] : new SeveralLoggers(loggers);
}
