/** The CompileContext of both kinds of thread: on the main thread it collects findings and file contents, in a worker it serves them. */
import { closeSync, openSync, readFileSync } from "node:fs";
import type { Finding, Origin } from "../config/finding.ts";
import type { AnyMessage } from "../config/message.ts";
import { nearest } from "../config/nearest.ts";
import type { SdsSecretConfig, Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { ClusterDefaults, CompileContext, Extension, ExtensionCategory, LogTarget, LogWriter } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";
import { secretKey } from "../net/tls/secrets.ts";
import type { OverloadState } from "../overload/thread-state.ts";
import type { RouteTables } from "../router/route-tables.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { StatsStore } from "../stats/stats.ts";
import type { ThreadLocalClusters } from "../upstream/upstream.ts";
import type { ExtensionSet } from "./extension-set.ts";

/** A DataSource file may be this large at most: certificates, bodies of direct responses, scripts. */
const maxFileBytes = 64 * 1024 * 1024;

/** Names of all clusters of the configuration. */
export interface ClusterNames extends Iterable<string> {
  has(name: string): boolean;
}

export interface ContextParts {
  readonly extensions: ExtensionSet;
  readonly stats: StatsStore;
  readonly runtime: Runtime;
  readonly timers: TimerWheel;
  readonly overload?: OverloadState | undefined;
  readonly clusterDefaults?: ClusterDefaults | undefined;
  readonly clusters: ThreadLocalClusters;
  readonly clusterNames: ClusterNames;
  /** By secretKey. */
  readonly secrets?: ReadonlyMap<string, Secret>;
  readonly routes?: RouteTables;
  readonly health?: CompileContext["health"];
  readonly node: CompileContext["node"];
  readonly headerPrefix: string;
  readonly options: CompileContext["options"];
}

/** What the loader knows of the messages that are compiled. */
export interface FindingSource {
  locate(message: object, field?: string): Origin | undefined;
  /** The loader has a finding for this field: what follows from it is not said as well. */
  isBroken(message: object, field: string): boolean;
}

/** On the main thread. `findings` and `files` fill while compiling. */
export class ValidatingContext implements CompileContext {
  readonly validating: boolean = true;
  readonly workerIndex = -1;
  readonly findings: Finding[] = [];
  /** Contents of every DataSource file read, to be sent to the workers. */
  readonly files = new Map<string, Uint8Array>();
  readonly routes: RouteTables | undefined;
  readonly health: CompileContext["health"];
  readonly stats: StatsStore;
  readonly runtime: Runtime;
  readonly timers: TimerWheel;
  readonly clusterDefaults: ClusterDefaults | undefined;
  readonly clusters: ThreadLocalClusters;
  readonly node: CompileContext["node"];
  readonly headerPrefix: string;
  readonly options: CompileContext["options"];
  readonly #extensions: ExtensionSet;
  readonly #clusterNames: ClusterNames;
  readonly #secrets: ReadonlyMap<string, Secret> | undefined;
  readonly #source: FindingSource;
  readonly #allowUnsupported: boolean;
  #suggestionsLeft = 100;

  constructor(parts: ContextParts, source: FindingSource, allowUnsupported: boolean) {
    this.stats = parts.stats;
    this.runtime = parts.runtime;
    this.timers = parts.timers;
    this.clusterDefaults = parts.clusterDefaults;
    this.clusters = parts.clusters;
    this.node = parts.node;
    this.headerPrefix = parts.headerPrefix;
    this.options = parts.options;
    this.routes = parts.routes;
    this.health = parts.health;
    this.#extensions = parts.extensions;
    this.#clusterNames = parts.clusterNames;
    this.#secrets = parts.secrets;
    this.#source = source;
    this.#allowUnsupported = allowUnsupported;
  }

  report(message: object, field: string | undefined, finding: Pick<Finding, "code" | "text"> & Partial<Finding>): void {
    if (field !== undefined && this.#source.isBroken(message, field)) return;
    this.findings.push({
      code: finding.code,
      severity: finding.severity ?? "error",
      text: finding.text,
      origin: finding.origin ?? this.#source.locate(message, field),
      hint: finding.hint,
    });
  }

  readFile(path: string, message: object, field: string): Buffer | undefined {
    const known = this.files.get(path);
    if (known !== undefined) return Buffer.from(known.buffer, known.byteOffset, known.byteLength);
    try {
      const contents = readFileSync(path);
      if (contents.length > maxFileBytes) {
        this.report(message, field, { code: "OR5002", text: `file ${path} has ${contents.length} bytes: at most ${maxFileBytes} can be used` });
        return undefined;
      }
      this.files.set(path, contents);
      return contents;
    } catch (error) {
      this.report(message, field, { code: "OR5001", text: `cannot read ${path}: ${reason(error)}`, hint: "check the path and the permissions" });
      return undefined;
    }
  }

  hasCluster(name: string): boolean {
    return this.#clusterNames.has(name);
  }

  secret(config: SdsSecretConfig): Secret | undefined {
    return this.#secrets?.get(secretKey(config));
  }

  nearestCluster(name: string): string | undefined {
    // Comparing costs: a file with more mistakes than this has one mistake.
    return this.#suggestionsLeft-- > 0 ? nearest(name, this.#clusterNames) : undefined;
  }

  extension(category: ExtensionCategory, message: AnyMessage | undefined, at: object, field: string, name = ""): Extension | undefined {
    if (message === undefined) {
      this.report(at, field, {
        code: "OR3001",
        text: `didn't find a registered implementation for '${name}' with type URL: ''`,
        hint: "give it a typed_config with an @type",
      });
      return undefined;
    }
    const row = extensionOfMessage(message.$typeName);
    if (row === undefined) {
      this.report(at, field, {
        code: "OR4002",
        severity: this.#allowUnsupported ? "warning" : "error",
        text: `extension '${name}' (${message.$typeName}) is not supported`,
        hint: this.#allowUnsupported ? undefined : "see docs/compatibility.md; --allow-unsupported starts without it",
      });
      return undefined;
    }
    if (!sameCategory(row.category, category)) {
      this.report(at, field, {
        code: "OR3001",
        text: `didn't find a registered implementation for '${name}' with type URL: '${message.$typeName}' among ${category}`,
        hint: `${message.$typeName} belongs to ${row.category}`,
      });
      return undefined;
    }
    return this.#extensions.get(row);
  }

  openLog(target: LogTarget, at: object, field: string): LogWriter | undefined {
    if (target.kind === "file") {
      try {
        closeSync(openSync(target.path, "a", 0o640));
      } catch (error) {
        this.report(at, field, {
          code: "OR5003",
          text: `unable to open file '${target.path}': ${reason(error)}`,
          hint: "check the folder and the permissions",
        });
        return undefined;
      }
    }
    return discard;
  }
}

const discard: LogWriter = { write: () => {} };

/** A transport socket row serves listeners and clusters alike. */
function sameCategory(a: ExtensionCategory, b: ExtensionCategory): boolean {
  return a === b || (a.startsWith("envoy.transport_sockets.") && b.startsWith("envoy.transport_sockets."));
}

function reason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  const words: Record<string, string> = {
    ENOENT: "no such file or directory",
    EACCES: "permission denied",
    EISDIR: "it is a directory",
    ENOTDIR: "not a directory",
  };
  return (code !== undefined && words[code]) || String((error as Error).message ?? error);
}

/** Contexts that serve: workers, and the main thread's own admin listener. The configuration is known to be good. */
export class ServingContext implements CompileContext {
  readonly validating = false;
  readonly workerIndex: number;
  readonly stats: StatsStore;
  readonly runtime: Runtime;
  readonly timers: TimerWheel;
  readonly overload: OverloadState | undefined;
  readonly clusterDefaults: ClusterDefaults | undefined;
  readonly clusters: ThreadLocalClusters;
  readonly node: CompileContext["node"];
  readonly headerPrefix: string;
  readonly options: CompileContext["options"];
  readonly routes: RouteTables | undefined;
  readonly health: CompileContext["health"];
  readonly #extensions: ExtensionSet;
  readonly #clusterNames: ClusterNames;
  readonly #secrets: ReadonlyMap<string, Secret> | undefined;
  readonly #files: ReadonlyMap<string, Uint8Array>;
  readonly #openLog: (target: LogTarget) => LogWriter;
  readonly #onProblem: (text: string) => void;

  constructor(
    parts: ContextParts,
    more: { workerIndex: number; files: ReadonlyMap<string, Uint8Array>; openLog: (target: LogTarget) => LogWriter; onProblem: (text: string) => void },
  ) {
    this.workerIndex = more.workerIndex;
    this.stats = parts.stats;
    this.runtime = parts.runtime;
    this.timers = parts.timers;
    this.overload = parts.overload;
    this.clusterDefaults = parts.clusterDefaults;
    this.clusters = parts.clusters;
    this.node = parts.node;
    this.headerPrefix = parts.headerPrefix;
    this.options = parts.options;
    this.routes = parts.routes;
    this.health = parts.health;
    this.#extensions = parts.extensions;
    this.#clusterNames = parts.clusterNames;
    this.#secrets = parts.secrets;
    this.#files = more.files;
    this.#openLog = more.openLog;
    this.#onProblem = more.onProblem;
  }

  report(_message: object, field: string | undefined, finding: Pick<Finding, "code" | "text"> & Partial<Finding>): void {
    if (finding.severity !== "warning") this.#onProblem(`${finding.code} ${field ?? ""}: ${finding.text}`);
  }

  readFile(path: string): Buffer | undefined {
    const found = this.#files.get(path);
    if (found === undefined) return undefined;
    return Buffer.from(found.buffer, found.byteOffset, found.byteLength);
  }

  hasCluster(name: string): boolean {
    return this.#clusterNames.has(name);
  }

  secret(config: SdsSecretConfig): Secret | undefined {
    return this.#secrets?.get(secretKey(config));
  }

  extension(category: ExtensionCategory, message: AnyMessage | undefined): Extension | undefined {
    const row = message === undefined ? undefined : extensionOfMessage(message.$typeName);
    return row !== undefined && sameCategory(row.category, category) ? this.#extensions.get(row) : undefined;
  }

  openLog(target: LogTarget): LogWriter {
    return this.#openLog(target);
  }
}
