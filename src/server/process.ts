/** The proxy as a process: signals, exit codes, files that name its addresses. The server itself knows nothing of these. */
import { existsSync, type FSWatcher, watch, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Options } from "../cli/options.ts";
import { printFindings } from "../config/print-findings.ts";
import { getLogger, setAllLevels, setLogSink } from "../log/log.ts";
import { createMainSink } from "../log/system-log.ts";
import { controlSocketPath, listenControl, sendControl } from "./base-id.ts";
import { Server, StartError } from "./server.ts";

/** A run of file events within this many milliseconds is one change. */
const watchQuietMs = 100;

/** Starts serving. The exit code when it could not start; undefined while it runs (the process then ends by itself with its code set). */
export async function serve(options: Options): Promise<number | undefined> {
  setAllLevels(options.logLevel);
  for (const [component, level] of options.componentLogLevels) getLogger(component).level = level;
  const sink = createMainSink({ format: options.logFormat, escaped: options.logFormatEscaped, path: options.logPath });
  setLogSink(sink, process.pid);
  const log = getLogger("main");

  const baseId = await claimBaseId(options);
  if (baseId === undefined) {
    process.stderr.write(
      `base id ${options.baseId} (restart epoch ${options.restartEpoch}) is in use by another process: give this one a --base-id of its own, or --use-dynamic-base-id\n`,
    );
    return 1;
  }
  if (options.baseIdPath !== "") writeFileSync(options.baseIdPath, `${baseId.id}`, { mode: 0o644 });

  const server = new Server({ ...options, baseId: baseId.id }, sink);
  let ending = false;
  const end = (code: number): void => {
    if (ending) return;
    ending = true;
    process.exitCode = code;
    void server.stop().then(
      () => {
        baseId.close();
        sink.flush();
        process.exit(code);
      },
      (error: unknown) => {
        log.critical(`while stopping: ${String(error)}`);
        sink.flush();
        process.exit(1);
      },
    );
  };
  baseId.onCommand = async (command) => {
    switch (command) {
      case "ping":
        return "ok";
      case "stop_admin":
        await server.stopAdmin();
        return "ok";
      case "drain":
        // The successor accepts from now on; who is connected here is asked to come again, over the drain time.
        server.drainListeners({ graceful: true, inboundOnly: false, skipExit: true });
        server.drainListeners({ graceful: false, inboundOnly: false });
        return "ok";
      case "terminate":
        setImmediate(() => end(0));
        return "ok";
      case "reload":
        return server.reload();
    }
  };
  server.onQuit = () => end(0);
  server.onFatal = () => end(1);
  server.onLogFormat = (pattern) => sink.setFormat(pattern);

  process.on("SIGTERM", () => {
    log.warning("caught ENVOY_SIGTERM");
    end(0);
  });
  process.on("SIGINT", () => {
    log.warning("caught SIGINT");
    end(0);
  });
  process.on("SIGUSR1", () => server.reopenLogs());
  process.on("SIGHUP", () => void server.reload());
  process.on("SIGPIPE", () => {});
  process.on("uncaughtException", (error) => {
    log.critical(`uncaught exception on the main thread: ${error.stack ?? String(error)}`);
  });

  try {
    await server.start(
      options.restartEpoch > 0 && !options.disableHotRestart
        ? () => sendControl(controlSocketPath(baseId.id, options.restartEpoch - 1), "stop_admin")
        : undefined,
    );
  } catch (error) {
    if (error instanceof StartError) {
      if (error.findings.length > 0) process.stderr.write(printFindings(error.findings, { format: "text", color: process.stderr.isTTY }));
      log.critical(error.message);
      if (options.logLevel === "off") process.stderr.write(`${error.message}\n`);
    } else log.critical(`error initializing: ${error instanceof Error ? error.stack : String(error)}`);
    await server.stop().catch(() => {});
    baseId.close();
    sink.flush();
    process.exit(1);
  }
  if (options.adminAddressPath !== "" && server.adminAddress !== undefined) writeFileSync(options.adminAddressPath, server.adminAddress, { mode: 0o644 });
  if (options.restartEpoch > 0 && !options.disableHotRestart) takeOver(baseId.id, options, server);
  if (options.watch) watchConfiguration(options, server);
  return undefined;
}

/** The new process serves now: the parent stops accepting, drains, and ends after --parent-shutdown-time-s. */
function takeOver(baseId: number, options: Options, server: Server): void {
  const parent = controlSocketPath(baseId, options.restartEpoch - 1);
  void sendControl(parent, "drain").then((answer) => {
    if (answer === undefined) return;
    const timer = setTimeout(() => void sendControl(parent, "terminate"), options.parentShutdownTimeS * 1000);
    server.onStop(() => clearTimeout(timer));
    timer.unref();
  });
}

interface BaseId {
  readonly id: number;
  onCommand: Parameters<typeof listenControl>[1];
  close(): void;
}

/** Listens on the control socket of the id asked for, or of the first free one (--use-dynamic-base-id). */
async function claimBaseId(options: Options): Promise<BaseId | undefined> {
  const claim: BaseId = { id: options.baseId, onCommand: async () => "starting", close: () => {} };
  if (options.disableHotRestart) return claim;
  for (let attempt = 0; attempt < 100; attempt++) {
    const id = options.useDynamicBaseId ? Math.floor(Math.random() * 0x7fffffff) : options.baseId;
    const server = await listenControl(controlSocketPath(id, options.restartEpoch), (command) => claim.onCommand(command));
    if (server !== undefined) return Object.assign(claim, { id, close: () => void server.close() });
    if (!options.useDynamicBaseId) return undefined;
  }
  return undefined;
}

/**
 * --watch: the configuration, and the filters in TypeScript that it names. Folders are watched, not files, so that editors and ConfigMaps that
 * swap a file are seen.
 */
function watchConfiguration(options: Options, server: Server): void {
  if (options.configPath === "" || !existsSync(options.configPath)) return;
  const watchers = new Map<string, FSWatcher>();
  let timer: NodeJS.Timeout | undefined;
  const reload = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => void server.reload().then(look), watchQuietMs);
  };
  const look = (): void => {
    const sources = [...(server.prepared?.files.keys() ?? [])].filter((path) => /\.[cm]?[jt]s$/.test(path));
    for (const path of [options.configPath, ...sources]) {
      const folder = dirname(path);
      if (watchers.has(folder)) continue;
      const watcher = watch(folder, (_event, file) => {
        const isConfiguration = folder === dirname(options.configPath) && (file === basename(options.configPath) || file?.startsWith("..") === true);
        if (file === null || isConfiguration || /\.[cm]?[jt]s$/.test(file)) reload();
      });
      watcher.unref();
      watchers.set(folder, watcher);
    }
  };
  look();
  server.onStop(() => {
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  });
}
