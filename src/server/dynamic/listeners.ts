/** Listeners that discovery brings (LDS): each waits for its routes before the workers open it. */
import { fingerprint } from "../../config/fingerprint.ts";
import type { Listener } from "../../config/schema/types/envoy.config.listener.v3.d.ts";
import { compileListener } from "../../listener/compile.ts";
import type { Counter, Gauge } from "../../stats/stats.ts";
import type { Resource } from "../../xds/resource.ts";
import type { ResourceUpdate } from "../../xds/subscription.ts";
import { type DynamicEnvironment, describeFailures, firstDuplicate, type Needs, type UpdateFailure } from "./environment.ts";

export const listenerType = "envoy.config.listener.v3.Listener";

export interface DynamicListener {
  readonly message: Listener;
  readonly version: string;
  readonly updatedAt: Date;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export interface ListenerEntry {
  readonly name: string;
  /** What the workers have. */
  readonly active: DynamicListener | undefined;
  /** What waits for its routes and secrets. */
  readonly warming: DynamicListener | undefined;
  /** The newest update was refused. */
  readonly failure: UpdateFailure | undefined;
}

type Entry = { -readonly [K in keyof ListenerEntry]: ListenerEntry[K] };

/** What a listener waits for. */
export interface ListenerNeeds {
  /** Subscribes to what the listener names; resolves when it is there, or not to be had. */
  need(listener: Listener): Needs;
  /** Listeners have come or gone: what nobody needs any more is let go. */
  changed(): void;
}

export class DynamicListeners {
  readonly #environment: DynamicEnvironment;
  readonly #needs: ListenerNeeds;
  readonly #entries = new Map<string, Entry>();
  readonly #added: Counter;
  readonly #modified: Counter;
  readonly #removed: Counter;
  readonly #created: Counter;
  readonly #inPlace: Counter;
  readonly #warming: Gauge;
  readonly #draining: Gauge;
  readonly #chainsDraining: Gauge;
  readonly #timers = new Set<NodeJS.Timeout>();
  #version = "";

  constructor(environment: DynamicEnvironment, needs: ListenerNeeds) {
    this.#environment = environment;
    this.#needs = needs;
    const scope = environment.stats.scope("listener_manager.");
    this.#added = scope.counter("listener_added");
    this.#modified = scope.counter("listener_modified");
    this.#removed = scope.counter("listener_removed");
    this.#created = scope.counter("listener_create_success");
    this.#inPlace = scope.counter("listener_in_place_updated");
    this.#warming = scope.gauge("total_listeners_warming");
    this.#draining = scope.gauge("total_listeners_draining");
    this.#chainsDraining = scope.gauge("total_filter_chains_draining");
  }

  get version(): string {
    return this.#version;
  }
  get entries(): readonly ListenerEntry[] {
    return [...this.#entries.values()];
  }
  /** What the workers have. */
  get active(): DynamicListener[] {
    return [...this.#entries.values()].flatMap(({ active }) => (active === undefined ? [] : [active]));
  }
  get warming(): DynamicListener[] {
    return [...this.#entries.values()].flatMap(({ warming }) => (warming === undefined ? [] : [warming]));
  }

  /** Takes what is good; throws an Error that names what is not. Resolves when what needs no waiting is in force. */
  async accept({ resources, removed, version }: ResourceUpdate): Promise<void> {
    const twice = firstDuplicate(resources);
    if (twice !== undefined) throw new Error(`duplicate listener ${twice} found`);
    const failures = new Map<string, string>();
    const named = new Set(resources.map(({ name }) => name));
    // A listener that never was in force, only refused, goes without a word.
    const gone = removed ?? [...this.#entries.keys()].filter((name) => !named.has(name));
    let applied = 0;
    for (const name of gone) if (await this.#remove(name)) applied++;
    for (const resource of resources) {
      try {
        if (await this.#take(resource)) applied++;
      } catch (error) {
        const details = (error as Error).message;
        failures.set(resource.name, details);
        this.#entry(resource.name).failure = { message: resource.message, version, details, at: new Date() };
      }
    }
    if (applied > 0 || failures.size === 0) this.#version = version;
    this.#needs.changed();
    if (failures.size > 0) throw new Error(describeFailures("listener", failures));
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (entry === undefined) this.#entries.set(name, (entry = { name, active: undefined, warming: undefined, failure: undefined }));
    return entry;
  }

  async #take(resource: Resource): Promise<boolean> {
    const environment = this.#environment;
    const message = resource.message as Listener;
    const { name } = message;
    if (environment.isStaticListener(name)) return false;
    const files = await environment.validate(resource, (context) => compileListener(message, context));
    const entry = this.#entry(name);
    entry.failure = undefined;
    const { active, warming } = entry;
    const newest = warming ?? active;
    if (newest !== undefined && fingerprint(newest.message, newest.files) === fingerprint(message, files)) return false;
    if (active === undefined || fingerprint(active.message.address) !== fingerprint(message.address)) await environment.claim(message);
    const next: DynamicListener = { message, version: resource.version, updatedAt: new Date(), files };
    entry.warming = next;
    (newest === undefined ? this.#added : this.#modified).inc();
    this.#count();
    const { isReady, ready } = this.#needs.need(message);
    const opened = ready.then(async () => {
      if (entry.warming !== next || this.#entries.get(name) !== entry) return;
      entry.warming = undefined;
      entry.active = next;
      this.#count();
      if (active !== undefined) this.#drain(active, next);
      this.#created.add(environment.concurrency);
      await environment.apply({ listeners: [message], files });
    });
    if (isReady) await opened;
    return true;
  }

  async #remove(name: string): Promise<boolean> {
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    this.#entries.delete(name);
    if (entry.active === undefined && entry.warming === undefined) return false;
    this.#removed.inc();
    this.#count();
    if (entry.active !== undefined) {
      this.#forDrainTime(this.#draining, 1);
      await this.#environment.apply({ removedListeners: [name] });
      this.#environment.released(name);
    }
    return true;
  }

  /** Counts what an update winds up: filter chains that are gone where only those changed, else the listener as it was. */
  #drain(before: DynamicListener, after: DynamicListener): void {
    const rest = ({ message }: DynamicListener): string => fingerprint({ ...message, filterChains: [], defaultFilterChain: undefined });
    if (rest(before) !== rest(after)) {
      this.#forDrainTime(this.#draining, 1);
      return;
    }
    this.#inPlace.inc();
    const chains = ({ message, files }: DynamicListener): string[] =>
      [...message.filterChains, ...(message.defaultFilterChain === undefined ? [] : [message.defaultFilterChain])].map((chain) => fingerprint(chain, files));
    const kept = new Set(chains(after));
    this.#forDrainTime(this.#chainsDraining, chains(before).filter((chain) => !kept.has(chain)).length);
  }

  #forDrainTime(gauge: Gauge, amount: number): void {
    gauge.add(amount);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      gauge.sub(amount);
    }, this.#environment.drainTimeMs);
    timer.unref();
    this.#timers.add(timer);
  }

  #count(): void {
    this.#warming.set(this.warming.length);
  }
}
