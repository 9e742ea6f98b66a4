/**
 * Secrets that discovery brings (SDS), beside those that `server/secrets.ts` reads with the bootstrap: through a management server, or for
 * resources that discovery brought. What names a secret is compiled again when it changes.
 */
import { compileConfigSource, type XdsSource } from "../../config/config-source.ts";
import { fingerprint } from "../../config/fingerprint.ts";
import type { SdsSecretConfig, Secret } from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import { walkMessages } from "../../config/walk.ts";
import { secretConfigType, secretKey, secretType } from "../../net/tls/secrets.ts";
import type { ResourceUpdate, Subscription } from "../../xds/subscription.ts";
import { type DynamicSecret, SecretWatch, secretPlaces, secretScope } from "../secrets.ts";
import type { DynamicEnvironment } from "./environment.ts";

export interface WantedSecret {
  readonly key: string;
  readonly name: string;
  /** Where it comes from; undefined: nowhere that is known. */
  source(): XdsSource | undefined;
}

/** The secrets that a resource names, and where each comes from. */
export function wantedSecrets(resource: object, environment: DynamicEnvironment): WantedSecret[] {
  const wanted: WantedSecret[] = [];
  walkMessages(resource, ({ message }) => {
    if (message.$typeName !== secretConfigType) return true;
    const config = message as unknown as SdsSecretConfig;
    const key = secretKey(config);
    if (config.sdsConfig === undefined || environment.hasSecret(key)) return true;
    wanted.push({ key, name: config.name, source: () => compileConfigSource(config, "sds_config", config.sdsConfig, environment.context()) });
    return true;
  });
  return wanted;
}

class SecretSubscription {
  readonly wanted: WantedSecret;
  readonly subscription: Subscription;
  readonly ready: Promise<void>;
  current: (DynamicSecret & { readonly updatedAt: Date; readonly files: ReadonlyMap<string, Uint8Array> }) | undefined;
  becomeReady: () => void = () => {};

  constructor(wanted: WantedSecret, subscribe: (entry: SecretSubscription) => Subscription) {
    this.wanted = wanted;
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve;
    });
    this.subscription = subscribe(this);
  }
}

export class DynamicSecrets {
  readonly #environment: DynamicEnvironment;
  readonly #entries = new Map<string, SecretSubscription>();
  /** Files that secrets name are renewed under the same name. */
  readonly #watch = new SecretWatch(() => void this.#readAgain());

  constructor(environment: DynamicEnvironment) {
    this.#environment = environment;
  }

  /** By secretKey. */
  get byKey(): ReadonlyMap<string, Secret> {
    return new Map([...this.#entries].flatMap(([key, { current }]) => (current === undefined ? [] : [[key, current.secret] as const])));
  }
  /** Those that have come. */
  get current(): NonNullable<SecretSubscription["current"]>[] {
    return [...this.#entries.values()].flatMap(({ current }) => (current === undefined ? [] : [current]));
  }
  /** Names of those that have not. */
  get warming(): string[] {
    return [...this.#entries.values()].filter(({ current }) => current === undefined).map(({ wanted }) => wanted.name);
  }

  /** Subscribes to what is new among them; resolves when all are there, or not to be had. */
  async need(wanted: readonly WantedSecret[]): Promise<void> {
    await Promise.all(
      wanted.map((one) => {
        let found = this.#entries.get(one.key);
        const source = found === undefined ? one.source() : undefined;
        if (source !== undefined) {
          this.#entries.set(one.key, (found = new SecretSubscription(one, (entry) => this.#subscribe(entry, source))));
          found.subscription.start();
        }
        return found?.ready;
      }),
    );
  }

  has(wanted: readonly WantedSecret[]): boolean {
    return wanted.every(({ key }) => this.#entries.get(key)?.current !== undefined);
  }

  keepOnly(keys: ReadonlySet<string>): void {
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      entry.subscription.close();
      entry.becomeReady();
      this.#entries.delete(key);
    }
    this.#watchFiles();
  }

  close(): void {
    for (const { subscription } of this.#entries.values()) subscription.close();
    this.#watch.close();
  }

  #subscribe(entry: SecretSubscription, source: XdsSource): Subscription {
    const { wanted } = entry;
    const { stats, subscribe, setText } = this.#environment;
    return subscribe(source, {
      typeName: secretType,
      scope: secretScope(stats, wanted.name),
      names: [wanted.name],
      setText,
      accept: (update) => this.#accept(entry, update),
      onFailure: entry.becomeReady,
    });
  }

  async #accept(entry: SecretSubscription, { resources, removed }: ResourceUpdate): Promise<void> {
    const { key, name } = entry.wanted;
    if (resources.length === 0) {
      // What is taken away stays in force until what names it goes, as with Envoy.
      if (removed === undefined) throw new Error("Missing SDS resources for a secret");
      return;
    }
    if (resources.length > 1) throw new Error(`Unexpected SDS secrets length: ${resources.length}`);
    const [resource] = resources;
    const secret = resource.message as Secret;
    if (secret.name !== name) throw new Error(`Unexpected SDS secret (expecting ${name}): ${secret.name}`);
    const secrets = new Map([...this.byKey, [key, secret]]);
    const files = await this.#environment.validateSecrets(resource, secrets, key);
    const before = entry.current;
    const isSame = before !== undefined && fingerprint(before.secret, before.files) === fingerprint(secret, files);
    entry.current = { key, name, secret, version: resource.version, updatedAt: isSame ? before.updatedAt : new Date(), files };
    this.#watchFiles();
    if (!isSame) await this.#environment.applySecret(key, files);
    entry.becomeReady();
  }

  #watchFiles(): void {
    this.#watch.watch(secretPlaces(this.current.map(({ secret }) => secret)));
  }

  /** Files have been replaced: secrets that name them are others now. */
  async #readAgain(): Promise<void> {
    for (const entry of this.#entries.values()) {
      const before = entry.current;
      if (before === undefined) continue;
      try {
        const files = await this.#environment.validateSecrets(undefined, new Map(this.byKey), before.key);
        if (fingerprint(before.secret, before.files) === fingerprint(before.secret, files)) continue;
        entry.current = { ...before, updatedAt: new Date(), files };
        await this.#environment.applySecret(before.key, files);
      } catch {
        secretScope(this.#environment.stats, before.name).counter("key_rotation_failed").inc();
      }
    }
  }
}
