/**
 * Dynamic resources from a file (path_config_source): a DiscoveryResponse, read at start and each time the file is moved into place.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api#filesystem-subscriptions
 *
 * A file that cannot be read leaves what was there and counts as update_failure; resources that are not wanted count as update_rejected.
 */
import { type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { FileSource } from "../config/config-source.ts";
import { getLogger } from "../log/log.ts";
import { readResources, type UnknownFields } from "./resource.ts";
import { Intake, type Subscriber, type Subscription } from "./subscription.ts";

const log = getLogger("config");

/** A change settles for so long before the file is read: a new file may be filled after it was made. */
const quietMs = 20;

export class FileSubscription implements Subscription {
  readonly #source: FileSource;
  readonly #subscriber: Subscriber;
  readonly #intake: Intake;
  readonly #unknownFields: UnknownFields | undefined;
  #watcher: FSWatcher | undefined;
  #quiet: NodeJS.Timeout | undefined;
  /** What was read last is being looked at; a change meanwhile is read behind it. */
  #busy = false;
  #changed = false;
  #closed = false;

  constructor(source: FileSource, subscriber: Subscriber, unknownFields?: UnknownFields) {
    this.#source = source;
    this.#subscriber = subscriber;
    this.#intake = new Intake(subscriber, "Filesystem");
    this.#unknownFields = unknownFields;
  }

  /** Reads the file, and again whenever it is replaced. */
  start(): void {
    const { path, watchedDirectory } = this.#source;
    const directory = watchedDirectory ?? dirname(path);
    const name = basename(path);
    try {
      this.#watcher = watch(directory, (event, file) => {
        // In-place changes are not looked at, as with Envoy: half a file would be read.
        if (event !== "rename" || (watchedDirectory === undefined && file !== null && file !== name)) return;
        clearTimeout(this.#quiet);
        this.#quiet = setTimeout(() => this.#read(), quietMs);
      });
      this.#watcher.on("error", () => this.#watcher?.close());
      this.#watcher.unref();
    } catch (error) {
      log.warning(`cannot watch ${directory}: ${(error as Error).message}: changes of ${path} will not be seen`);
    }
    this.#intake.waitAtMost(this.#source.initialFetchTimeoutMs);
    this.#read();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#quiet);
    this.#intake.close();
    this.#watcher?.close();
  }

  #read(): void {
    if (this.#closed) return;
    if (this.#busy) {
      this.#changed = true;
      return;
    }
    const { path } = this.#source;
    const { typeName } = this.#subscriber;
    this.#intake.attempt();
    const read = readResources({ kind: "file", path }, typeName, this.#unknownFields);
    if (read.kind !== "resources") {
      if (read.kind === "unreadable") this.#intake.failed(`in ${path}, ${read.why}`);
      else this.#intake.refuse(read.why);
      return;
    }
    this.#busy = true;
    this.#intake.offer({ resources: read.resources, removed: undefined, version: read.version }, () => {
      this.#busy = false;
      if (!this.#changed) return;
      this.#changed = false;
      this.#read();
    });
  }
}
