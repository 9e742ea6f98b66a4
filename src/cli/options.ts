/** Envoy's command line: the same flags, meanings and refusals (TCLAP's: `--flag=value` is refused), plus a few of our own. */
import { availableParallelism } from "node:os";
import { type Component, components, isLevel, type Level, levels } from "../log/log.ts";
import { isToolName, TOOLS } from "../supervise/tools.ts";
import type { VerbFlag } from "./flags.ts";
import { suggest } from "./suggest.ts";
import { VERBS } from "./verbs.ts";

export interface Options {
  configPath: string;
  configYaml: string;
  mode: "serve" | "validate";
  concurrency: number;
  logLevel: Level;
  componentLogLevels: ReadonlyMap<Component, Level>;
  /** As given, for /server_info. */
  componentLogLevelText: string;
  logFormat: string;
  logFormatSet: boolean;
  logFormatEscaped: boolean;
  logPath: string;
  enableFineGrainLogging: boolean;
  skipDeprecatedLogs: boolean;
  logStacktraceSingleEntry: boolean;
  allowUnknownStaticFields: boolean;
  rejectUnknownDynamicFields: boolean;
  ignoreUnknownDynamicFields: boolean;
  adminAddressPath: string;
  localAddressIpVersion: "v4" | "v6";
  restartEpoch: number;
  baseId: number;
  useDynamicBaseId: boolean;
  baseIdPath: string;
  disableHotRestart: boolean;
  skipHotRestartOnNoParent: boolean;
  skipHotRestartParentStats: boolean;
  serviceCluster: string;
  serviceNode: string;
  serviceZone: string;
  fileFlushIntervalMs: number;
  fileFlushMinSizeKb: number;
  drainTimeS: number;
  drainStrategy: "Gradual" | "Immediate";
  parentShutdownTimeS: number;
  enableMutexTracing: boolean;
  cpusetThreads: boolean;
  disabledExtensions: readonly string[];
  socketPath: string;
  socketMode: number;
  enableCoreDump: boolean;
  statsTags: readonly { readonly name: string; readonly value: string }[];
  // ours
  allowUnsupported: boolean;
  output: "text" | "json";
  watch: boolean;
}

/** What the command line asks for. `usage`: print `text` and end with `code`. */
export type ParsedOptions =
  | { readonly kind: "options"; readonly options: Options }
  | { readonly kind: "version" }
  | { readonly kind: "hot_restart_version" }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "error"; readonly text: string };

export const defaultLogFormat = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v";

interface Flag {
  readonly name: string;
  readonly short?: string;
  readonly kind: "switch" | "string" | "uint32";
  readonly help: string;
  /** For completion: all there are. */
  readonly values?: readonly string[];
  /** Not one of Envoy's. */
  readonly ours?: true;
  apply(o: Options, value: string): string | undefined;
}

const text = (name: string, help: string, set: (o: Options, value: string) => string | undefined, more: Partial<Flag> = {}): Flag => ({
  name,
  kind: "string",
  help,
  apply: (o, value) => set(o, value),
  ...more,
});
const number = (name: string, help: string, set: (o: Options, value: number) => void): Flag => ({
  name,
  kind: "uint32",
  help,
  apply(o, value) {
    if (!/^[0-9]+$/.test(value) || Number(value) > 0xffffffff)
      return `PARSE ERROR: Argument: (--${name})\n             Couldn't read argument value from string '${value}'`;
    set(o, Number(value));
    return undefined;
  },
});
const flag = (name: string, help: string, set: (o: Options) => void, more: Partial<Flag> = {}): Flag => ({
  name,
  kind: "switch",
  help,
  apply: (o) => {
    set(o);
    return undefined;
  },
  ...more,
});

const flags: readonly Flag[] = [
  text("config-path", "Path to the configuration file (.yaml, .yml, .json, .pb, .pb_text)", (o, v) => void (o.configPath = v), { short: "c" }),
  text("config-yaml", "Inline YAML configuration, merged over the contents of --config-path", (o, v) => void (o.configYaml = v)),
  text(
    "mode",
    "'serve' (default: check the configuration, then serve traffic) or 'validate' (check it and exit)",
    (o, v) => {
      if (v !== "serve" && v !== "validate") return `error: unknown mode '${v}'`;
      o.mode = v;
      return undefined;
    },
    { values: ["serve", "validate"] },
  ),
  number("concurrency", "Number of worker threads (default: the number of CPUs)", (o, v) => void (o.concurrency = Math.max(v, 1))),
  text(
    "log-level",
    "[trace][debug][info][warning|warn][error][critical][off]; default info",
    (o, v) => {
      const level = parseLevel(v);
      if (level === undefined) return `error: invalid log level specified '${v}'`;
      o.logLevel = level;
      return undefined;
    },
    { short: "l", values: levels },
  ),
  text("component-log-level", "Comma-separated list of component log levels: upstream:debug,config:trace", (o, v) => {
    o.componentLogLevelText = v;
    const parsed = parseComponentLevels(v);
    if (typeof parsed === "string") return `error: ${parsed}`;
    o.componentLogLevels = parsed;
    return undefined;
  }),
  text("log-format", `Log line format in spdlog syntax; default "${defaultLogFormat}"`, (o, v) => {
    o.logFormat = v;
    o.logFormatSet = true;
    return undefined;
  }),
  flag("log-format-escaped", "Escape control characters in the application log", (o) => void (o.logFormatEscaped = true)),
  text("log-path", "Write the application log to this file instead of the console", (o, v) => void (o.logPath = v)),
  flag("enable-fine-grain-logging", "Log levels per file (accepted; levels are per component here)", (o) => void (o.enableFineGrainLogging = true)),
  flag("log-stacktrace-single-entry", "Log a stack trace as one entry", (o) => void (o.logStacktraceSingleEntry = true)),
  flag("skip-deprecated-logs", "Do not log warnings about deprecated fields", (o) => void (o.skipDeprecatedLogs = true)),
  flag("allow-unknown-fields", "Same as --allow-unknown-static-fields", (o) => void (o.allowUnknownStaticFields = true)),
  flag("allow-unknown-static-fields", "Accept fields that the API does not know in the static configuration", (o) => void (o.allowUnknownStaticFields = true)),
  flag("reject-unknown-dynamic-fields", "Refuse fields that the API does not know in dynamic configuration", (o) => void (o.rejectUnknownDynamicFields = true)),
  flag("ignore-unknown-dynamic-fields", "Ignore and do not count unknown fields in dynamic configuration", (o) => void (o.ignoreUnknownDynamicFields = true)),
  text("admin-address-path", "Write the admin interface's address to this file", (o, v) => void (o.adminAddressPath = v)),
  text(
    "local-address-ip-version",
    "The local IP address version (v4 or v6)",
    (o, v) => {
      if (v !== "v4" && v !== "v6") return `error: unknown IP address version '${v}'`;
      o.localAddressIpVersion = v;
      return undefined;
    },
    { values: ["v4", "v6"] },
  ),
  number("restart-epoch", "Hot restart epoch: 0 for the first process, one more for each that takes over", (o, v) => void (o.restartEpoch = v)),
  number("base-id", "Base id, so that several proxies on one host do not meet", (o, v) => void (o.baseId = v)),
  flag("use-dynamic-base-id", "Choose a free base id (not with a restart epoch above 0)", (o) => void (o.useDynamicBaseId = true)),
  text("base-id-path", "Write the base id to this file", (o, v) => void (o.baseIdPath = v)),
  flag("disable-hot-restart", "Take no part in hot restarts", (o) => void (o.disableHotRestart = true)),
  flag("hot-restart-version", "Print the hot restart version and exit", () => {}),
  flag(
    "skip-hot-restart-on-no-parent",
    "With a restart epoch above 0: start normally when there is no parent",
    (o) => void (o.skipHotRestartOnNoParent = true),
  ),
  flag("skip-hot-restart-parent-stats", "Do not take over the parent's statistics", (o) => void (o.skipHotRestartParentStats = true)),
  text("service-cluster", "Cluster name of this node", (o, v) => void (o.serviceCluster = v)),
  text("service-node", "Name of this node", (o, v) => void (o.serviceNode = v)),
  text("service-zone", "Zone of this node", (o, v) => void (o.serviceZone = v)),
  number("file-flush-interval-msec", "How often log files are flushed, milliseconds; default 10000", (o, v) => void (o.fileFlushIntervalMs = v)),
  number("file-flush-min-size-kb", "Flush log files once this much is buffered, kB; default 64", (o, v) => void (o.fileFlushMinSizeKb = v)),
  number("drain-time-s", "How long old listeners are drained, seconds; default 600", (o, v) => void (o.drainTimeS = v)),
  text(
    "drain-strategy",
    "'gradual' (default: ever more connections are closed over the drain time) or 'immediate'",
    (o, v) => {
      if (v !== "gradual" && v !== "immediate") return `error: unknown drain-strategy '${v}'`;
      o.drainStrategy = v === "gradual" ? "Gradual" : "Immediate";
      return undefined;
    },
    { values: ["gradual", "immediate"] },
  ),
  number("parent-shutdown-time-s", "When the parent is ended after a hot restart, seconds; default 900", (o, v) => void (o.parentShutdownTimeS = v)),
  flag("enable-mutex-tracing", "Accepted for compatibility: workers share no locks", (o) => void (o.enableMutexTracing = true)),
  flag("cpuset-threads", "Default number of workers from the CPU set (always so here)", (o) => void (o.cpusetThreads = true)),
  text("disable-extensions", "Comma-separated list of extensions to disable", (o, v) => void (o.disabledExtensions = v.split(",").filter((x) => x !== ""))),
  text("socket-path", "Path of the hot restart socket", (o, v) => void (o.socketPath = v)),
  text("socket-mode", "Permissions of the hot restart socket, octal", (o, v) => {
    if (!/^[0-7]{1,4}$/.test(v)) return `error: invalid socket-mode '${v}'`;
    o.socketMode = Number.parseInt(v, 8);
    return undefined;
  }),
  flag("enable-core-dump", "Enable core dumps", (o) => void (o.enableCoreDump = true)),
  text("stats-tag", "A tag for every statistic, tag:value; may be repeated", (o, v) => {
    const colon = v.indexOf(":");
    if (colon < 0) return `error: misformatted stats-tag '${v}'`;
    const tag = { name: v.slice(0, colon), value: v.slice(colon + 1) };
    if (!/^[A-Za-z0-9]+$/.test(tag.name)) return `error: misformatted stats-tag '${v}' contains invalid char in '${tag.name}'`;
    if (tag.value === "" || tag.value.includes(".")) return `error: misformatted stats-tag '${v}' contains invalid char in '${tag.value}'`;
    o.statsTags = [...o.statsTags, tag];
    return undefined;
  }),
  flag(
    "allow-unsupported",
    "Start although the configuration sets fields that Outrider does not honour (one warning each)",
    (o) => void (o.allowUnsupported = true),
    { ours: true },
  ),
  flag("watch", "Reload when a configuration file changes", (o) => void (o.watch = true), { ours: true }),
  text(
    "output",
    "'text' (default) or 'json': how --mode validate reports what it finds",
    (o, v) => {
      if (v !== "text" && v !== "json") return `error: unknown output '${v}': text or json`;
      o.output = v;
      return undefined;
    },
    { ours: true, values: ["text", "json"] },
  ),
  flag("version", "Print the version and exit", () => {}),
  flag("help", "Print this help and exit", () => {}, { short: "h" }),
];

/** The same for completion. */
export const proxyFlags: readonly VerbFlag[] = flags.map(({ name, short, kind, help, values }) => ({
  name,
  help,
  ...(short && { short }),
  ...(values && { values }),
  ...(kind !== "switch" && { value: kind === "uint32" ? "N" : name.endsWith("path") ? "FILE" : "TEXT" }),
}));

const byName = new Map<string, Flag>();
for (const f of flags) {
  byName.set(`--${f.name}`, f);
  if (f.short) byName.set(`-${f.short}`, f);
}

export function parseLevel(word: string): Level | undefined {
  if (word === "warn") return "warning";
  return isLevel(word) ? word : undefined;
}

/** "http:debug,upstream:error" to a map, or what is wrong with it. */
export function parseComponentLevels(list: string): Map<Component, Level> | string {
  const found = new Map<Component, Level>();
  for (const item of list.split(",")) {
    const [name, word, ...rest] = item.split(":");
    if (word === undefined || rest.length > 0) return `component log level not correctly specified '${item}'`;
    const level = parseLevel(word);
    if (level === undefined) return `invalid log level specified '${word}'`;
    if (!(components as readonly string[]).includes(name)) return `invalid component specified '${name}'`;
    found.set(name as Component, level);
  }
  return found;
}

function defaults(): Options {
  return {
    configPath: "",
    configYaml: "",
    mode: "serve",
    concurrency: availableParallelism(),
    logLevel: "info",
    componentLogLevels: new Map(),
    componentLogLevelText: "",
    logFormat: defaultLogFormat,
    logFormatSet: false,
    logFormatEscaped: false,
    logPath: "",
    enableFineGrainLogging: false,
    skipDeprecatedLogs: false,
    logStacktraceSingleEntry: false,
    allowUnknownStaticFields: false,
    rejectUnknownDynamicFields: false,
    ignoreUnknownDynamicFields: false,
    adminAddressPath: "",
    localAddressIpVersion: "v4",
    restartEpoch: 0,
    baseId: 0,
    useDynamicBaseId: false,
    baseIdPath: "",
    disableHotRestart: false,
    skipHotRestartOnNoParent: false,
    skipHotRestartParentStats: false,
    serviceCluster: "",
    serviceNode: "",
    serviceZone: "",
    fileFlushIntervalMs: 10000,
    fileFlushMinSizeKb: 64,
    drainTimeS: 600,
    drainStrategy: "Gradual",
    parentShutdownTimeS: 900,
    enableMutexTracing: false,
    cpusetThreads: false,
    disabledExtensions: [],
    socketPath: "@envoy_domain_socket",
    socketMode: 0,
    enableCoreDump: false,
    statsTags: [],
    allowUnsupported: false,
    output: "text",
    watch: false,
  };
}

/** Options with every flag at its default: for the programmatic API. */
export function defaultOptions(): Options {
  return defaults();
}

export function parseOptions(argv: readonly string[]): ParsedOptions {
  const options = defaults();
  const seen = new Set<string>();
  let asked: "version" | "hot_restart_version" | "help" | undefined;
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i];
    if (argument === "--") break;
    const found = byName.get(argument);
    if (found === undefined) {
      const near = argument.startsWith("--")
        ? suggest(argument.split("=")[0], [...byName.keys()])
        : i === 0
          ? suggest(argument, [...Object.keys(VERBS), ...Object.keys(TOOLS)])
          : undefined;
      const value = argument.startsWith("--") && argument.includes("=") && byName.has(argument.split("=")[0]);
      const hint = value ? ` (write the value as a word of its own: ${argument.replace("=", " ")})` : near ? ` (did you mean ${near}?)` : "";
      return { kind: "error", text: `PARSE ERROR: Argument: ${argument}\n             Couldn't find match for argument${hint}\n\n${brief}` };
    }
    if (seen.has(found.name) && found.name !== "stats-tag")
      return { kind: "error", text: `PARSE ERROR: Argument: (--${found.name})\n             Argument already set!\n\n${brief}` };
    seen.add(found.name);
    let value = "";
    if (found.kind !== "switch") {
      if (i + 1 >= argv.length)
        return { kind: "error", text: `PARSE ERROR: Argument: (--${found.name})\n             Missing a value for this argument!\n\n${brief}` };
      value = argv[++i];
    }
    if (found.name === "version") asked = "version";
    else if (found.name === "hot-restart-version") asked = "hot_restart_version";
    else if (found.name === "help") asked = "help";
    const problem = found.apply(options, value);
    if (problem !== undefined) return { kind: "error", text: problem.startsWith("PARSE") ? `${problem}\n\n${brief}` : problem };
  }
  if (asked === "help") return { kind: "help", text: help() };
  if (asked !== undefined) return { kind: asked };
  if (options.useDynamicBaseId && options.restartEpoch > 0) return { kind: "error", text: "error: cannot use --restart-epoch=n with --use-dynamic-base-id" };
  return { kind: "options", options };
}

/** The commands of daemontools, some to a line. */
function toolNames(): string[] {
  const names = Object.keys(TOOLS).filter(isToolName);
  const half = Math.ceil(names.length / 2);
  return [` ${names.slice(0, half).join(", ")},`, ` ${names.slice(half).join(", ")}`];
}

const brief = "For all flags: outrider --help";

function help(): string {
  const row = (f: Flag): string => {
    const name = `${f.short ? `-${f.short}, ` : "    "}--${f.name}${f.kind === "switch" ? "" : f.kind === "uint32" ? " <uint32_t>" : " <string>"}`;
    return `  ${name.padEnd(46)} ${f.help}`;
  };
  return [
    "USAGE: outrider [flags of the proxy]        run (or check) an Envoy configuration",
    "       outrider VERB ...                    one of these; all about it: outrider VERB --help",
    "",
    ...Object.entries(VERBS).map(([name, verb]) => `  ${name.padEnd(11)} ${verb.summary}`),
    ...toolNames().map((line, i) => `  ${i === 0 ? "daemontools:" : "            "}${line}`),
    "",
    "Envoy's flags:",
    ...flags.filter((f) => !f.ours).map(row),
    "",
    "Outrider's own:",
    ...flags.filter((f) => f.ours).map(row),
    "",
  ].join("\n");
}
