/** envoy.access_loggers.stdout: lines on the process's stdout. */
import type { AnyMessage } from "../../../config/message.ts";
import { isMessage } from "../../../config/message.ts";
import type { StdoutAccessLog } from "../../../config/schema/types/envoy.extensions.access_loggers.stream.v3.d.ts";
import { noAccessLog } from "../../../formatter/access-log.ts";
import { honours as formatHonours } from "../../../formatter/compile.ts";
import type { AccessLogger, CompileContext, Extension } from "../../extension.ts";
import { compileLogFormat, FormatLogger } from "../format-logger.ts";

const typeName = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

export default {
  honours: { ...formatHonours, [typeName]: "*" },
  accessLogger: {
    compile(message: AnyMessage, context: CompileContext): AccessLogger {
      if (!isMessage<StdoutAccessLog>(message, typeName)) return noAccessLog;
      const formatter = compileLogFormat(message.accessLogFormat.value, context);
      const writer = context.openLog({ kind: "stdout" }, message, "log_format");
      return writer === undefined ? noAccessLog : new FormatLogger(formatter, writer);
    },
  },
} satisfies Extension;
