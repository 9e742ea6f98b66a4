/** The access loggers that write formatted lines somewhere: file, stdout, stderr. */
import type { SubstitutionFormatString } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import { compileFormat, compileSubstitutionFormatString, defaultFormat } from "../../formatter/compile.ts";
import type { FormatContext, Formatter } from "../../formatter/formatter.ts";
import type { AccessLogger, CompileContext, LogWriter } from "../extension.ts";

export class FormatLogger implements AccessLogger {
  readonly #formatter: Formatter;
  readonly #writer: LogWriter;
  constructor(formatter: Formatter, writer: LogWriter) {
    this.#formatter = formatter;
    this.#writer = writer;
  }
  log(context: FormatContext): void {
    this.#writer.write(this.#formatter.format(context));
  }
}

/** The format of a `log_format` field, or Envoy's default line. */
export function compileLogFormat(message: SubstitutionFormatString | undefined, context: CompileContext): Formatter {
  return message === undefined || message.format.case === undefined ? compileFormat(defaultFormat, context) : compileSubstitutionFormatString(message, context);
}
