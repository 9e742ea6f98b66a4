/** retry_host_predicate and retry_priority: which hosts a retry must not go to again. Compiled once per policy, state per request. */
import { isMessage, type JsonObject, type JsonValue } from "../../config/message.ts";
import type { OmitHostMetadataConfig } from "../../config/schema/types/envoy.extensions.retry.host.omit_host_metadata.v3.d.ts";
import type { PreviousPrioritiesConfig } from "../../config/schema/types/envoy.extensions.retry.priority.previous_priorities.v3.d.ts";
import type { Extension } from "../../extensions/extension.ts";
import type { Host } from "../../upstream/upstream.ts";
import type { RetryPolicy } from "../route.ts";

export interface RetryHostPredicate {
  shouldSelectAnotherHost(host: Host): boolean;
  onHostAttempted(host: Host): void;
}

class PreviousHosts implements RetryHostPredicate {
  readonly #attempted: string[] = [];
  shouldSelectAnotherHost(host: Host): boolean {
    return this.#attempted.includes(host.address.text);
  }
  onHostAttempted(host: Host): void {
    this.#attempted.push(host.address.text);
  }
}

const omitCanaries: RetryHostPredicate = {
  shouldSelectAnotherHost: (host) => host.canary,
  onHostAttempted() {},
};

class OmitHostMetadata implements RetryHostPredicate {
  readonly #match: JsonObject;
  constructor(match: JsonObject) {
    this.#match = match;
  }
  shouldSelectAnotherHost(host: Host): boolean {
    const metadata = host.metadata["envoy.lb"];
    if (metadata === undefined) return false;
    const keys = Object.keys(this.#match);
    return keys.length > 0 && keys.every((key) => sameJson(metadata[key], this.#match[key]));
  }
  onHostAttempted(): void {}
}

function sameJson(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => sameJson(a[key], b[key]));
}

/** Priorities that were tried count as used up after every `updateFrequency` attempts. */
export class PreviousPriorities {
  readonly #updateFrequency: number;
  readonly #attempted: number[] = [];
  readonly #excluded: number[] = [];

  constructor(updateFrequency: number) {
    this.#updateFrequency = Math.max(1, updateFrequency);
  }

  get excluded(): readonly number[] {
    return this.#excluded;
  }

  onHostAttempted(host: Host): void {
    this.#attempted.push(host.priority);
    if (this.#attempted.length % this.#updateFrequency !== 0) return;
    for (const priority of this.#attempted) if (!this.#excluded.includes(priority)) this.#excluded.push(priority);
  }
}

interface RetryHosts {
  readonly predicates: readonly (() => RetryHostPredicate)[];
  readonly priorities: (() => PreviousPriorities) | undefined;
}

const compiled = new WeakMap<RetryPolicy, RetryHosts>();

const pkg = "envoy.extensions.retry.host.";

export function retryHosts(policy: RetryPolicy): RetryHosts {
  let found = compiled.get(policy);
  if (found === undefined) {
    found = compileRetryHosts(policy);
    compiled.set(policy, found);
  }
  return found;
}

function compileRetryHosts(policy: RetryPolicy): RetryHosts {
  const predicates: (() => RetryHostPredicate)[] = [];
  for (const message of policy.hostPredicates) {
    if (message.$typeName === `${pkg}previous_hosts.v3.PreviousHostsPredicate`) predicates.push(() => new PreviousHosts());
    else if (message.$typeName === `${pkg}omit_canary_hosts.v3.OmitCanaryHostsPredicate`) predicates.push(() => omitCanaries);
    else if (isMessage<OmitHostMetadataConfig>(message, `${pkg}omit_host_metadata.v3.OmitHostMetadataConfig`)) {
      const predicate = new OmitHostMetadata(message.metadataMatch?.filterMetadata["envoy.lb"] ?? {});
      predicates.push(() => predicate);
    }
  }
  let priorities: RetryHosts["priorities"];
  const priority = policy.priorityPredicate;
  if (isMessage<PreviousPrioritiesConfig>(priority, "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig")) {
    const { updateFrequency } = priority;
    priorities = () => new PreviousPriorities(updateFrequency);
  }
  return { predicates, priorities };
}

/** The extensions of both categories: what they do is above, and belongs to the router. */
export default {
  honours: {
    [`${pkg}previous_hosts.v3.PreviousHostsPredicate`]: "*",
    [`${pkg}omit_canary_hosts.v3.OmitCanaryHostsPredicate`]: "*",
    [`${pkg}omit_host_metadata.v3.OmitHostMetadataConfig`]: "*",
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": "*",
  },
} satisfies Extension;
