/** envoy.access_loggers.stderr: lines on the process's stderr. */
import type { AnyMessage } from "../../../config/message.ts";
import { isMessage } from "../../../config/message.ts";
import type { StderrAccessLog } from "../../../config/schema/types/envoy.extensions.access_loggers.stream.v3.d.ts";
import { noAccessLog } from "../../../formatter/access-log.ts";
import { honours as formatHonours } from "../../../formatter/compile.ts";
import type { AccessLogger, CompileContext, Extension } from "../../extension.ts";
import { compileLogFormat, FormatLogger } from "../format-logger.ts";

const typeName = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

export default {
  honours: { ...formatHonours, [typeName]: "*" },
  accessLogger: {
    compile(message: AnyMessage, context: CompileContext): AccessLogger {
      if (!isMessage<StderrAccessLog>(message, typeName)) return noAccessLog;
      const formatter = compileLogFormat(message.accessLogFormat.value, context);
      const writer = context.openLog({ kind: "stderr" }, message, "log_format");
      return writer === undefined ? noAccessLog : new FormatLogger(formatter, writer);
    },
  },
} satisfies Extension;
