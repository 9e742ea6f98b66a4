/** What asks for dynamic resources, and the account that is kept of the answers: the same whatever they come through. */
import type { XdsSource } from "../config/config-source.ts";
import { getLogger } from "../log/log.ts";
import { hashBytes } from "../router/hash-policy.ts";
import type { Counter, Gauge, Histogram, StatsScope } from "../stats/stats.ts";
import { describe, type Resource } from "./resource.ts";

const log = getLogger("config");

export interface ResourceUpdate {
  readonly resources: readonly Resource[];
  /** Names that are gone; undefined: `resources` is all there is. */
  readonly removed: readonly string[] | undefined;
  readonly version: string;
}

/** Who wants resources of one type. */
export interface Subscriber {
  /** Resources of any other type are refused. */
  readonly typeName: string;
  /** Where the update_* statistics are. */
  readonly scope: StatsScope;
  /** Which resources; undefined: all. */
  readonly names?: readonly string[] | undefined;
  setText?(name: string, value: string): void;
  /** Takes the resources, or throws (rejects with) an Error that says why it does not. */
  accept(update: ResourceUpdate): void | Promise<void>;
  /** Nothing could be had, or it was refused, or the time to wait for it is over: what there is has to do. */
  onFailure?(): void;
}

export interface Subscription {
  start(): void;
  close(): void;
}

export type Subscribe = (source: XdsSource, subscriber: Subscriber) => Subscription;

/** Counts what comes in, and knows when the first answer is overdue. */
export class Intake {
  readonly #subscriber: Subscriber;
  readonly #what: string;
  readonly #attempt: Counter;
  readonly #success: Counter;
  readonly #failure: Counter;
  readonly #rejected: Counter;
  readonly #timeout: Counter;
  readonly #time: Gauge;
  readonly #version: Gauge;
  readonly #duration: Histogram;
  #timer: NodeJS.Timeout | undefined;

  /** `what`: how the log names this kind of source, e.g. "Filesystem". */
  constructor(subscriber: Subscriber, what: string) {
    const { scope } = subscriber;
    this.#subscriber = subscriber;
    this.#what = what;
    this.#attempt = scope.counter("update_attempt");
    this.#success = scope.counter("update_success");
    this.#failure = scope.counter("update_failure");
    this.#rejected = scope.counter("update_rejected");
    this.#timeout = scope.counter("init_fetch_timeout");
    this.#time = scope.gauge("update_time");
    this.#version = scope.gauge("version");
    this.#duration = scope.histogram("update_duration", "ms");
    subscriber.setText?.(`${scope.prefix}version_text`, "");
  }

  /** Whoever waits for the first answer waits so long, milliseconds; 0: for ever. */
  waitAtMost(ms: number): void {
    if (ms === 0) return;
    this.#timer = setTimeout(() => {
      this.#timeout.inc();
      log.warning(`${this.#what}: initial fetch timed out for type.googleapis.com/${this.#subscriber.typeName}`);
      this.#subscriber.onFailure?.();
    }, ms);
    this.#timer.unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  attempt(): void {
    this.#attempt.inc();
  }

  /** There was no answer. */
  failed(why: string): void {
    this.#failure.inc();
    log.warning(`${this.#what} config update failure: ${why}`);
    this.#subscriber.onFailure?.();
  }

  /** The way to the server is broken: it is tried again, and whoever waits goes on waiting. */
  disconnected(): void {
    this.#failure.inc();
  }

  /** There was an answer that was none: `refused` without asking the subscriber. */
  refuse(why: string): void {
    clearTimeout(this.#timer);
    this.#rejected.inc();
    log.warning(`${this.#what} config update rejected: ${why}`);
    this.#subscriber.onFailure?.();
  }

  /** Offers an answer; `done` hears why it was refused, undefined where it was taken. It is called at once if the subscriber needs no time. */
  offer(update: ResourceUpdate, done?: (refusal: string | undefined) => void): void {
    clearTimeout(this.#timer);
    const began = performance.now();
    const taken = (): void => {
      this.#success.inc();
      this.#time.set(Date.now());
      this.#version.set(Number(hashBytes(Buffer.from(update.version).toString("latin1"))));
      this.#subscriber.setText?.(`${this.#subscriber.scope.prefix}version_text`, update.version);
      this.#duration.record(performance.now() - began);
      done?.(undefined);
    };
    const refused = (error: unknown): void => {
      const why = error instanceof Error ? error.message : String(error);
      this.refuse(why);
      done?.(why);
    };
    try {
      const result = this.#subscriber.accept(update);
      if (result === undefined) taken();
      else result.then(taken, refused);
    } catch (error) {
      refused(error);
    }
  }
}

/** Why a resource cannot be used as it is: what is wrong inside of it. Throws. */
export function refuseBroken(resources: readonly Resource[]): void {
  const problems = resources.flatMap((resource) => resource.problems);
  if (problems.length > 0) throw new Error(describe(problems));
}
