/** envoy.access_loggers.file: lines appended to a file. */
import type { AnyMessage } from "../../../config/message.ts";
import { isMessage } from "../../../config/message.ts";
import type { FileAccessLog } from "../../../config/schema/types/envoy.extensions.access_loggers.file.v3.d.ts";
import { noAccessLog } from "../../../formatter/access-log.ts";
import { compileFormat, compileJson, defaultFormat, honours as formatHonours } from "../../../formatter/compile.ts";
import type { Formatter } from "../../../formatter/formatter.ts";
import type { AccessLogger, CompileContext, Extension } from "../../extension.ts";
import { compileLogFormat, FormatLogger } from "../format-logger.ts";

const typeName = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

function compileFormatOf(message: FileAccessLog, context: CompileContext): Formatter {
  const format = message.accessLogFormat;
  switch (format.case) {
    case "format":
      return format.value === "" ? compileFormat(defaultFormat, context) : compileFormat(format.value, context, { at: message, field: "format" });
    case "jsonFormat":
      return compileJson(format.value, context, { at: message, field: "json_format" });
    case "typedJsonFormat":
      return compileJson(format.value, context, { at: message, field: "typed_json_format" });
    default:
      return compileLogFormat(format.value, context);
  }
}

export default {
  honours: { ...formatHonours, [typeName]: "*" },
  accessLogger: {
    compile(message: AnyMessage, context: CompileContext): AccessLogger {
      if (!isMessage<FileAccessLog>(message, typeName)) return noAccessLog;
      const formatter = compileFormatOf(message, context);
      const writer = message.path === "" ? undefined : context.openLog({ kind: "file", path: message.path }, message, "path");
      return writer === undefined ? noAccessLog : new FormatLogger(formatter, writer);
    },
  },
} satisfies Extension;
