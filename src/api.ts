/**
 * The programmatic API: a proxy inside a Node process, for tests and tools.
 *
 *     import { start } from "outrider";
 *     const proxy = await start({ config: { static_resources: { ... port_value: 0 ... } } });
 *     await fetch(`http://${proxy.address("listener_0")}/`);
 *     await proxy.stop();
 */

import type { EventEmitter } from "node:events";
import { defaultOptions } from "./cli/options.ts";
import type { Finding } from "./config/finding.ts";
import { type Level, type LogRecord, setAllLevels, setLogSink } from "./log/log.ts";
import { Server, type ServerEvents, StartError } from "./server/server.ts";

export type { Finding, Level, LogRecord, ServerEvents };
export { StartError };

export interface StartOptions {
  /** Envoy v3 bootstrap: an object (snake_case or camelCase, as in JSON) or YAML text. */
  readonly config?: object | string;
  /** Or a file; with both, `config` is merged over it. */
  readonly configPath?: string;
  /** Worker threads; 1 unless given. */
  readonly concurrency?: number;
  /** "off" unless given. */
  readonly logLevel?: Level;
  /** Takes the system log; standard error unless given. Process-wide: the last proxy started decides. */
  readonly onLog?: (record: LogRecord) => void;
  readonly allowUnsupported?: boolean;
  readonly serviceNode?: string;
  readonly serviceCluster?: string;
}

export interface Proxy {
  /** "ip:port" (or a socket path) that a listener is bound to; the only listener's when no name is given. Throws when there is no such listener. */
  address(listener?: string): string;
  /** The admin interface's "ip:port", undefined where the configuration has none. */
  readonly adminAddress: string | undefined;
  /** `proxy.events.on("reloaded", (changes) => ...)`: see ServerEvents for what there is to hear. */
  readonly events: EventEmitter<ServerEvents>;
  /** Counters and gauges by name, all threads added up. */
  stats(): Map<string, number>;
  /** Reads the configuration again (`config` replaces the one given to `start`). What changed, or throws what is wrong. */
  reload(config?: object | string): Promise<string>;
  /** Closes everything; resolves when all threads are gone. */
  stop(): Promise<void>;
}

/** Starts a proxy; resolves when it serves. Throws StartError, whose `findings` say what is wrong with the configuration. */
export async function start(options: StartOptions): Promise<Proxy> {
  const text = (config: object | string | undefined): string => (config === undefined ? "" : typeof config === "string" ? config : JSON.stringify(config));
  const settings = {
    ...defaultOptions(),
    configPath: options.configPath ?? "",
    configYaml: text(options.config),
    concurrency: options.concurrency ?? 1,
    logLevel: options.logLevel ?? ("off" as const),
    disableHotRestart: true,
    allowUnsupported: options.allowUnsupported ?? false,
    serviceNode: options.serviceNode ?? "",
    serviceCluster: options.serviceCluster ?? "",
  };
  setAllLevels(settings.logLevel);
  const sink = { write: options.onLog ?? ((record: LogRecord) => void process.stderr.write(`[${record.level}][${record.component}] ${record.message}\n`)) };
  setLogSink(sink, 0);
  const server = new Server(settings, sink);
  try {
    await server.start();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    address(listener) {
      const addresses = server.listenerAddresses;
      const found = listener === undefined ? (addresses.size === 1 ? [...addresses.values()][0] : undefined) : addresses.get(listener);
      if (found === undefined)
        throw new Error(
          `no listener ${listener === undefined ? "is the only one" : `named "${listener}"`}; there are: ${[...addresses.keys()].join(", ") || "none"}`,
        );
      return found;
    },
    get adminAddress() {
      return server.adminAddress;
    },
    events: server.events,
    stats: () => server.aggregate.values(),
    async reload(config) {
      if (config !== undefined) settings.configYaml = text(config);
      const said = await server.reload();
      if (said.startsWith("error")) throw new Error(said);
      return said;
    },
    stop: () => server.stop(),
  };
}
