/**
 * Secrets of the configuration on the main thread: those that stand in it, and those that files bring (SDS). A changed file is a reason to
 * compile what names its secrets again; connections that are open keep what they began with.
 */
import { type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { fingerprint } from "../config/fingerprint.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { DataSource, WatchedDirectory } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { SdsSecretConfig, Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import { walkMessages } from "../config/walk.ts";
import { getLogger } from "../log/log.ts";
import { secretConfigType, secretKey, secretType } from "../net/tls/secrets.ts";
import type { StatsScope, StatsStore } from "../stats/stats.ts";
import { readResources } from "../xds/resource.ts";

const log = getLogger("config");

/** Files that belong together are written one after the other. */
const quietMs = 50;

/** A secret that came from a file. */
export interface DynamicSecret {
  readonly key: string;
  readonly name: string;
  readonly secret: Secret;
  readonly version: string;
}

export interface LoadedSecrets {
  /** All, by secretKey. */
  readonly byKey: ReadonlyMap<string, Secret>;
  readonly dynamic: readonly DynamicSecret[];
  /** Names of secrets that files are to bring, whether they have or not. */
  readonly wanted: readonly string[];
  /** Why files gave nothing. */
  readonly problems: readonly string[];
  /** Where to look for changes: folders, and the names in them that matter (undefined: all). */
  readonly places: ReadonlyMap<string, ReadonlySet<string> | undefined>;
}

export function loadSecrets(bootstrap: Bootstrap): LoadedSecrets {
  const byKey = new Map<string, Secret>();
  for (const secret of bootstrap.staticResources?.secrets ?? []) byKey.set(`\u0000${secret.name}`, secret);
  const dynamic = new Map<string, DynamicSecret>();
  const wanted = new Set<string>();
  const problems: string[] = [];
  const places: Places = new Map();
  const read = new Map<string, ReturnType<typeof readResources>>();
  walkMessages(bootstrap, ({ message }) => {
    if (message.$typeName !== secretConfigType) return true;
    const config = message as unknown as SdsSecretConfig;
    const source = config.sdsConfig?.configSourceSpecifier;
    if (source?.case !== "path" && source?.case !== "pathConfigSource") return true;
    const path = source.case === "path" ? source.value : source.value.path;
    wanted.add(config.name);
    addPlace(places, path, source.case === "path" ? undefined : source.value.watchedDirectory);
    let found = read.get(path);
    if (found === undefined) {
      read.set(path, (found = readResources({ kind: "file", path }, secretType)));
      if (found.kind !== "resources") problems.push(`${path}: ${found.why}`);
    }
    if (found.kind !== "resources") return true;
    const secret = found.resources.find(({ name }) => name === config.name)?.message as unknown as Secret | undefined;
    if (secret === undefined) return true;
    const key = secretKey(config);
    byKey.set(key, secret);
    dynamic.set(key, { key, name: config.name, secret, version: found.version });
    for (const [file, watched] of filesOf(secret)) addPlace(places, file, watched);
    return true;
  });
  return { byKey, dynamic: [...dynamic.values()], wanted: [...wanted], problems, places };
}

type Places = Map<string, Set<string> | undefined>;

function addPlace(places: Places, path: string, watched: WatchedDirectory | undefined): void {
  if (path === "") return;
  const folder = watched === undefined || watched.path === "" ? dirname(path) : watched.path;
  if (watched !== undefined && watched.path !== "") places.set(folder, undefined);
  else if (!places.has(folder)) places.set(folder, new Set([basename(path)]));
  else places.get(folder)?.add(basename(path));
}

/** Where the files that secrets name are, to be watched. */
export function secretPlaces(secrets: readonly Secret[]): LoadedSecrets["places"] {
  const places: Places = new Map();
  for (const secret of secrets) for (const [file, watched] of filesOf(secret)) addPlace(places, file, watched);
  return places;
}

function filesOf(secret: Secret): [string, WatchedDirectory | undefined][] {
  const { type } = secret;
  const file = (source: DataSource | undefined): string => (source?.specifier.case === "filename" ? source.specifier.value : "");
  if (type.case === "tlsCertificate") {
    const { certificateChain, privateKey, password, watchedDirectory } = type.value;
    return [certificateChain, privateKey, password].map((source) => [file(source), watchedDirectory]);
  }
  if (type.case === "validationContext") return [type.value.trustedCa, type.value.crl].map((source) => [file(source), type.value.watchedDirectory]);
  return [];
}

/** Tells when a file that secrets come from is replaced. */
export class SecretWatch {
  readonly #onChange: () => void;
  readonly #watchers = new Map<string, FSWatcher>();
  #places: LoadedSecrets["places"] = new Map();
  #timer: NodeJS.Timeout | undefined;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  watch(places: LoadedSecrets["places"]): void {
    this.#places = places;
    for (const [folder, watcher] of this.#watchers) {
      if (places.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of places.keys()) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, (event, file) => {
          const names = this.#places.get(folder);
          // In-place changes are not looked at, as with Envoy: half a key would be read.
          if (event !== "rename" || (names !== undefined && file !== null && !names.has(file))) return;
          clearTimeout(this.#timer);
          this.#timer = setTimeout(() => this.#onChange(), quietMs);
        });
        watcher.on("error", () => watcher.close());
        watcher.unref();
        this.#watchers.set(folder, watcher);
      } catch (error) {
        log.warning(`cannot watch ${folder}: ${(error as Error).message}: renewed secrets there will not be seen`);
      }
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }
}

/** sds.NAME.*, and texts of versions. */
export class SecretStats {
  readonly #stats: StatsStore;
  readonly #setText: (name: string, value: string) => void;
  /** When each came, for the admin interface. */
  readonly updatedAt = new Map<string, Date>();

  constructor(stats: StatsStore, setText: (name: string, value: string) => void) {
    this.#stats = stats;
    this.#setText = setText;
  }

  /** `before`: undefined at the start. Only what has changed counts. */
  took(now: LoadedSecrets, before: LoadedSecrets | undefined): void {
    for (const name of now.wanted) {
      const scope = this.#scope(name);
      const found = now.dynamic.find((one) => one.name === name);
      const known = before?.dynamic.find((one) => one.name === name);
      if (before !== undefined && fingerprint(found?.secret) === fingerprint(known?.secret) && found?.version === known?.version) continue;
      scope.counter("update_attempt").inc();
      if (found === undefined) {
        scope.counter(now.problems.length > 0 ? "update_failure" : "update_rejected").inc();
        continue;
      }
      scope.counter("update_success").inc();
      scope.gauge("update_time").set(Date.now());
      this.#setText(`${scope.prefix}version_text`, found.version);
      this.updatedAt.set(found.key, new Date());
    }
    for (const problem of now.problems) log.warning(`secrets: ${problem}`);
  }

  /** What files have now cannot be used: the secrets as they were go on. */
  refused(before: LoadedSecrets): void {
    for (const name of before.wanted) {
      const scope = this.#scope(name);
      scope.counter("update_attempt").inc();
      scope.counter("update_rejected").inc();
      scope.counter("key_rotation_failed").inc();
    }
  }

  #scope(name: string): StatsScope {
    return secretScope(this.#stats, name);
  }
}

export function secretScope(stats: StatsStore, name: string): StatsScope {
  const scope = stats.scope(`sds.${name}.`);
  for (const counter of ["update_attempt", "update_success", "update_failure", "update_rejected", "init_fetch_timeout", "key_rotation_failed"])
    scope.counter(counter);
  for (const gauge of ["update_time", "version"]) scope.gauge(gauge);
  return scope;
}
