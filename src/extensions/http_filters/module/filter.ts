/** The filter that runs a user's: an exception in it is the end of one request, never of more, and time that it takes is watched. */

import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { getLogger } from "../../../log/log.ts";
import type { Answer, HttpFilter as UserFilter } from "../../../sdk/filter.ts";
import type { Counter } from "../../../stats/stats.ts";
import { stackOf } from "./library.ts";

const log = getLogger("filter");

/** What streams of one place in a configuration share. */
export interface ModulePlace {
  readonly name: string;
  readonly path: string;
  readonly budgetMs: number;
  readonly failureModeAllow: boolean;
  readonly errors: Counter;
  readonly overBudget: Counter;
  create(): UserFilter;
  now(): number;
  /** When something was last logged: a filter that fails each time is not to fill the log. */
  lastErrorMs: number;
  lastBudgetMs: number;
}

const logIntervalMs = 1000;

export class ModuleFilter implements HttpFilter {
  readonly #place: ModulePlace;
  /** undefined: it failed, or could not be made; the stream goes past it. */
  #filter: UserFilter | undefined;
  #decoder: DecoderFilterCallbacks | undefined;
  #encoder: EncoderFilterCallbacks | undefined;
  #failedEarly: unknown;
  #hasFailedEarly = false;
  #isOver = false;
  #responseStarted = false;

  constructor(place: ModulePlace) {
    this.#place = place;
    try {
      this.#filter = place.create();
    } catch (error) {
      // There are no callbacks yet to answer with.
      this.#hasFailedEarly = true;
      this.#failedEarly = error;
    }
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
    this.#tell("setDecoderCallbacks", () => this.#filter?.setDecoderCallbacks?.(callbacks));
  }

  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
    this.#tell("setEncoderCallbacks", () => this.#filter?.setEncoderCallbacks?.(callbacks));
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    if (this.#hasFailedEarly) return this.#fail("create", this.#failedEarly) ? "continue" : "stop_all_and_watermark";
    const filter = this.#filter;
    if (filter?.decodeHeaders === undefined) return "continue";
    return this.#ask(
      "decodeHeaders",
      () => filter.decodeHeaders?.(headers, endStream),
      "stop_all_and_watermark",
      () => this.#decoder?.continueDecoding(),
    );
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    const filter = this.#filter;
    if (filter?.decodeData === undefined) return "continue";
    return this.#ask("decodeData", () => filter.decodeData?.(data, endStream), "stop_no_buffer", undefined);
  }

  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    const filter = this.#filter;
    if (filter?.decodeTrailers === undefined) return "continue";
    return this.#ask(
      "decodeTrailers",
      () => filter.decodeTrailers?.(trailers),
      "stop",
      () => this.#decoder?.continueDecoding(),
    );
  }

  encode1xxHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    const filter = this.#filter;
    if (filter?.encode1xxHeaders === undefined) return "continue";
    return this.#ask("encode1xxHeaders", () => filter.encode1xxHeaders?.(headers), "stop", undefined);
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    this.#responseStarted = true;
    const filter = this.#filter;
    if (filter?.encodeHeaders === undefined) return "continue";
    return this.#ask(
      "encodeHeaders",
      () => filter.encodeHeaders?.(headers, endStream),
      "stop_all_and_watermark",
      () => this.#encoder?.continueEncoding(),
    );
  }

  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    const filter = this.#filter;
    if (filter?.encodeData === undefined) return "continue";
    return this.#ask("encodeData", () => filter.encodeData?.(data, endStream), "stop_no_buffer", undefined);
  }

  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    const filter = this.#filter;
    if (filter?.encodeTrailers === undefined) return "continue";
    return this.#ask(
      "encodeTrailers",
      () => filter.encodeTrailers?.(trailers),
      "stop",
      () => this.#encoder?.continueEncoding(),
    );
  }

  onLocalReply(status: number, details: string): void {
    this.#tell("onLocalReply", () => this.#filter?.onLocalReply?.(status, details));
  }

  onStreamComplete(): void {
    this.#tell("onStreamComplete", () => this.#filter?.onStreamComplete?.());
  }

  onDestroy(): void {
    this.#tell("onDestroy", () => this.#filter?.onDestroy?.());
    this.#isOver = true;
    this.#filter = undefined;
  }

  /** `held`: the status while a promise is pending, and after a failure that has ended the stream. */
  #ask<S extends string>(method: string, call: () => Answer<S> | Promise<Answer<S>>, held: S, goOn: (() => void) | undefined): S | "continue" {
    const beganMs = this.#place.now();
    let answer: Answer<S> | Promise<Answer<S>>;
    try {
      answer = call();
    } catch (error) {
      return this.#fail(method, error) ? "continue" : held;
    } finally {
      this.#watch(method, beganMs);
    }
    if (!(answer instanceof Promise)) return answer ?? "continue";
    if (goOn === undefined) {
      answer.catch(() => {});
      return this.#fail(method, new TypeError(`${method} cannot be asynchronous: return "stop_and_buffer" and go on later`)) ? "continue" : held;
    }
    answer.then(
      (status) => {
        if (!this.#isOver && (status ?? "continue") === "continue") goOn();
      },
      (error: unknown) => {
        if (!this.#isOver && this.#fail(method, error)) goOn();
      },
    );
    return held;
  }

  /** For calls that decide nothing. */
  #tell(method: string, call: () => void): void {
    if (this.#filter === undefined) return;
    const beganMs = this.#place.now();
    try {
      call();
    } catch (error) {
      this.#report(method, error);
    }
    this.#watch(method, beganMs);
  }

  #watch(method: string, beganMs: number): void {
    const place = this.#place;
    const now = place.now();
    if (now - beganMs <= place.budgetMs) return;
    place.overBudget.inc();
    if (now - place.lastBudgetMs < logIntervalMs) return;
    place.lastBudgetMs = now;
    log.warning(
      `filter '${place.name}' (${place.path}): ${method} took ${Math.round(now - beganMs)} ms of the worker's time; the budget is ${place.budgetMs} ms`,
    );
  }

  /** True: the stream goes on without the filter. */
  #fail(method: string, error: unknown): boolean {
    this.#report(method, error);
    this.#hasFailedEarly = false;
    this.#filter = undefined;
    const place = this.#place;
    if (place.failureModeAllow) return true;
    if (this.#isOver) return false;
    const details = `filter_module_error{${place.name}}`;
    if (!this.#responseStarted) this.#decoder?.sendLocalReply({ status: 500, body: "", details });
    // Before the head has left this replaces the answer; after it the stream is reset.
    else this.#encoder?.sendLocalReply({ status: 500, body: "", details });
    return false;
  }

  #report(method: string, error: unknown): void {
    const place = this.#place;
    place.errors.inc();
    const now = place.now();
    if (now - place.lastErrorMs < logIntervalMs) return;
    place.lastErrorMs = now;
    log.error(`filter '${place.name}' (${place.path}) failed in ${method}: ${stackOf(error)}`);
  }
}
