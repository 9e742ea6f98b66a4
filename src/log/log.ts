/**
 * The system log: named components with levels of their own, Envoy's names and line format.
 * Every thread has loggers; a `LogSink` takes finished records (workers hand theirs to the main thread, see server/).
 */
export const levels = ["trace", "debug", "info", "warning", "error", "critical", "off"] as const;
export type Level = (typeof levels)[number];

export const components = [
  "admin",
  "alternate_protocols_cache",
  "aws",
  "assert",
  "backtrace",
  "basic_auth",
  "cache_filter",
  "client",
  "config",
  "connection",
  "conn_handler",
  "compression",
  "credential_injector",
  "decompression",
  "dns",
  "dynamic_forward_proxy",
  "dynamic_modules",
  "envoy_bug",
  "ext_authz",
  "ext_proc",
  "rocketmq",
  "file",
  "filter",
  "forward_proxy",
  "geolocation",
  "golang",
  "grpc",
  "happy_eyeballs",
  "hc",
  "health_checker",
  "http",
  "http2",
  "http1",
  "hystrix",
  "init",
  "io",
  "jwt",
  "kafka",
  "key_value_store",
  "load_balancing",
  "lua",
  "main",
  "matcher",
  "misc",
  "mongo",
  "multi_connection",
  "oauth2",
  "quic",
  "quic_stream",
  "pool",
  "rate_limit_quota",
  "rbac",
  "rds",
  "redis",
  "router",
  "runtime",
  "stats",
  "stats_sinks",
  "secret",
  "tap",
  "testing",
  "thrift",
  "tracing",
  "upstream",
  "udp",
  "wasm",
  "websocket",
  "grpc_sidestream",
  "outrider",
] as const;
export type Component = (typeof components)[number];

export interface LogRecord {
  readonly component: Component;
  readonly level: Level;
  readonly message: string;
  /** Date.now() */
  readonly at: number;
  /** "file.ts:123" of the caller where it is known cheaply, else the component's file. */
  readonly source: string;
  readonly thread: number;
}

export interface LogSink {
  write(record: LogRecord): void;
}

const ranks: Record<Level, number> = { trace: 0, debug: 1, info: 2, warning: 3, error: 4, critical: 5, off: 6 };

let sink: LogSink = { write: (record) => process.stderr.write(`[${record.level}][${record.component}] ${record.message}\n`) };
let threadNumber = 0;
const loggers = new Map<Component, Logger>();

/** Where records of this thread go. */
export function setLogSink(to: LogSink, thread: number): void {
  sink = to;
  threadNumber = thread;
}

/**
 * One component's logger. Where building the message costs something, ask first: `if (log.debugEnabled) log.debug(...)`.
 * Secrets (header values of authorization, cookies, keys) never go into a message.
 */
export class Logger {
  readonly component: Component;
  #rank: number = ranks.info;
  #level: Level = "info";
  traceEnabled = false;
  debugEnabled = false;

  constructor(component: Component) {
    this.component = component;
  }
  get level(): Level {
    return this.#level;
  }
  set level(level: Level) {
    this.#level = level;
    this.#rank = ranks[level];
    this.traceEnabled = this.#rank <= ranks.trace;
    this.debugEnabled = this.#rank <= ranks.debug;
  }
  trace(message: string, source = ""): void {
    if (this.traceEnabled) this.#write("trace", message, source);
  }
  debug(message: string, source = ""): void {
    if (this.debugEnabled) this.#write("debug", message, source);
  }
  info(message: string, source = ""): void {
    if (this.#rank <= ranks.info) this.#write("info", message, source);
  }
  warning(message: string, source = ""): void {
    if (this.#rank <= ranks.warning) this.#write("warning", message, source);
  }
  error(message: string, source = ""): void {
    if (this.#rank <= ranks.error) this.#write("error", message, source);
  }
  critical(message: string, source = ""): void {
    if (this.#rank <= ranks.critical) this.#write("critical", message, source);
  }
  #write(level: Level, message: string, source: string): void {
    sink.write({ component: this.component, level, message, at: Date.now(), source: source === "" ? `${this.component}.ts:1` : source, thread: threadNumber });
  }
}

export function getLogger(component: Component): Logger {
  let logger = loggers.get(component);
  if (logger === undefined) loggers.set(component, (logger = new Logger(component)));
  return logger;
}

export function isLevel(text: string): text is Level {
  return (levels as readonly string[]).includes(text);
}

/** Sets every component, also those whose logger is made later. */
export function setAllLevels(level: Level): void {
  for (const component of components) getLogger(component).level = level;
}
