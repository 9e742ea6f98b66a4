/** Where the system log goes: lines in Envoy's format, to the console (stderr) or to --log-path. Workers post their records to the main thread's sink. */
import type { Bootstrap_ApplicationLogConfig } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { LogRecord, LogSink } from "./log.ts";
import { type LogFile, LogFiles } from "./log-files.ts";
import { compileLogPattern, escapeLine, type LogPattern } from "./log-pattern.ts";

export const honours: Honours = {
  "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig": "*",
  "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat": "*",
};

export const defaultLogFormat = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

export interface MainSinkOptions {
  readonly format: string;
  /** --log-format-escaped */
  readonly escaped: boolean;
  /** --log-path; "" stands for stderr. */
  readonly path: string;
}

export interface MainSink extends LogSink {
  /** Writes all that is buffered, blocking: for the end of the process. */
  flush(): void;
  /** Takes the file by its name again after a rotation. */
  reopen(): void;
  /** From now on lines look like this. */
  setFormat(pattern: string): void;
}

class FileSink implements MainSink {
  readonly #file: LogFile;
  readonly #files: LogFiles;
  readonly #escaped: boolean;
  #pattern: LogPattern;

  constructor(options: MainSinkOptions) {
    // Every record is handed to the kernel at once: while a write is under way the next ones gather.
    this.#files = new LogFiles({ flushIntervalMs: 1000, flushMinBytes: 0, stats: undefined });
    this.#file = this.#files.open(options.path === "" ? { kind: "stderr" } : { kind: "file", path: options.path });
    this.#escaped = options.escaped;
    this.#pattern = compileLogPattern(options.format);
  }

  write(record: LogRecord): void {
    let bytes = Buffer.from(this.#pattern(record), "utf8").toString("latin1");
    if (this.#escaped) bytes = escapeLine(bytes);
    this.#file.write(`${bytes}\n`);
    // What is critical is often the last word.
    if (record.level === "critical") this.#file.flushSync();
  }

  flush(): void {
    this.#files.flushSync();
  }

  reopen(): void {
    this.#files.reopen();
  }

  setFormat(pattern: string): void {
    this.#pattern = compileLogPattern(pattern);
  }
}

/** Throws the system's error when the file cannot be opened. */
export function createMainSink(options: MainSinkOptions): MainSink {
  return new FileSink(options);
}

/** A worker's sink: hands records to the main thread, which writes them. */
export function createWorkerSink(post: (record: LogRecord) => void): LogSink {
  return { write: post };
}

/**
 * The line pattern that application_log_config asks for, undefined where it asks for none. `commandLine`: whether --log-format was given, which excludes it.
 */
export function compileApplicationLogConfig(
  message: Bootstrap_ApplicationLogConfig | undefined,
  context: CompileContext,
  commandLine: boolean,
): string | undefined {
  const format = message?.logFormat?.logFormat;
  if (message?.logFormat === undefined || format === undefined || format.case === undefined) return undefined;
  if (commandLine) {
    context.report(message, "log_format", { code: "OR3103", text: "Only one of ApplicationLogConfig.log_format or CLI option --log-format can be specified." });
    return undefined;
  }
  if (format.case === "textFormat") return format.value;
  const pattern = JSON.stringify(format.value);
  if (pattern.includes("%v"))
    context.report(message.logFormat, "json_format", {
      code: "OR2102",
      text: "setJsonLogFormat error: usage of %v is unavailable for JSON log formats",
      hint: "use %j: the message escaped for JSON",
    });
  if (pattern.includes("%_"))
    context.report(message.logFormat, "json_format", {
      code: "OR2102",
      text: "setJsonLogFormat error: usage of %_ is unavailable for JSON log formats",
      hint: "use %j: the message escaped for JSON",
    });
  return pattern;
}
