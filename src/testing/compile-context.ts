/** A CompileContext for tests of compile functions: collects findings, knows the clusters it is told, loads extensions from the registry. */
import { loadMessage } from "../config/load.ts";
import type { AnyMessage } from "../config/message.ts";
import type { Messages } from "../config/schema/types/messages.d.ts";
import type { CompileContext, Extension } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";

export interface TestContext extends CompileContext {
  /** Texts of what was reported, in order. */
  readonly findings: string[];
  setRuntime(values: Record<string, RuntimeValue>): void;
}

export interface TestContextOptions {
  readonly clusters?: readonly string[];
  /** File name to contents. */
  readonly files?: Readonly<Record<string, string>>;
  /** By message type; load them before (`loadExtensions`). */
  readonly extensions?: ReadonlyMap<string, Extension>;
  readonly timers?: TimerWheel;
}

export function testContext(options: TestContextOptions = {}): TestContext {
  const clusters = new Set(options.clusters ?? []);
  let snapshot = new RuntimeSnapshot();
  const findings: string[] = [];
  return {
    findings,
    setRuntime(values) {
      snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
    },
    validating: true,
    report(_message, field, finding) {
      findings.push(`${field ?? ""}: ${finding.text}`);
    },
    readFile(path, _message, field) {
      const text = options.files?.[path];
      if (text === undefined) findings.push(`${field}: cannot read ${path}`);
      return text === undefined ? undefined : Buffer.from(text);
    },
    hasCluster: (name) => clusters.has(name),
    extension(_category, message, _at, field) {
      const found = message === undefined ? undefined : options.extensions?.get(message.$typeName);
      if (found === undefined) findings.push(`${field}: no extension for ${message?.$typeName}`);
      return found;
    },
    stats: new StatsStore(),
    runtime: {
      get snapshot() {
        return snapshot;
      },
    },
    timers: options.timers ?? new TimerWheel(),
    clusters: { get: () => undefined },
    node: { id: "node", cluster: "cluster", zone: "zone" },
    headerPrefix: "x-envoy",
    options: { fileFlushIntervalMs: 10_000, fileFlushMinBytes: 65_536, concurrency: 1 },
    openLog: () => undefined,
    workerIndex: -1,
  };
}

/** A configuration message from its JSON form; throws where that has errors. */
export function message<N extends keyof Messages>(typeName: N, json: unknown): Messages[N] {
  const result = loadMessage({ kind: "text", name: "test", text: JSON.stringify(json), format: "json" }, typeName);
  if (result.failed || result.message === undefined) throw new Error(result.findings.map((finding) => finding.text).join("\n"));
  return result.message as unknown as Messages[N];
}

/** The modules of extensions, by the types of their messages. */
export async function loadExtensions(...typeNames: readonly AnyMessage["$typeName"][]): Promise<Map<string, Extension>> {
  const loaded = new Map<string, Extension>();
  for (const typeName of typeNames) {
    const row = extensionOfMessage(typeName);
    if (row === undefined) throw new Error(`no extension has ${typeName}`);
    const module = await row.load();
    for (const name of row.messages) loaded.set(name, module.default);
  }
  return loaded;
}
