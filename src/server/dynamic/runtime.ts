/** Layers of the runtime that discovery brings (RTDS). */
import { compileConfigSource, type XdsSource } from "../../config/config-source.ts";
import type { Bootstrap } from "../../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Runtime } from "../../config/schema/types/envoy.service.runtime.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import type { RuntimeLayers } from "../../runtime/layers.ts";
import type { StatsStore } from "../../stats/stats.ts";
import type { ResourceUpdate, Subscribe, Subscription } from "../../xds/subscription.ts";

const runtimeType = "envoy.service.runtime.v3.Runtime";

export interface RuntimeSubscription {
  /** Of the resource. */
  readonly name: string;
  readonly source: XdsSource;
}

/** Those that the bootstrap names, once each. */
export function compileRuntimeSubscriptions(bootstrap: Bootstrap, context: CompileContext): RuntimeSubscription[] {
  const found = new Map<string, RuntimeSubscription>();
  for (const { layerSpecifier } of bootstrap.layeredRuntime?.layers ?? []) {
    if (layerSpecifier.case !== "rtdsLayer") continue;
    const { name, rtdsConfig } = layerSpecifier.value;
    const source = compileConfigSource(layerSpecifier.value, "rtds_config", rtdsConfig, context);
    if (source !== undefined) found.set(name, { name, source });
  }
  return [...found.values()];
}

export interface RuntimeDiscoveryEnvironment {
  readonly stats: StatsStore;
  readonly subscribe: Subscribe;
  readonly runtime: RuntimeLayers;
  setText(name: string, value: string): void;
  /** The values are others now. */
  changed(): void;
}

/** Subscribes to all; resolves when each has come, or is not to be had. */
export async function startRuntimeDiscovery(wanted: readonly RuntimeSubscription[], environment: RuntimeDiscoveryEnvironment): Promise<Subscription[]> {
  const { stats, subscribe, runtime, setText } = environment;
  const subscriptions: Subscription[] = [];
  await Promise.all(
    wanted.map(
      ({ name, source }) =>
        new Promise<void>((resolve) => {
          // Envoy counts all layers together as runtime.*; with several it is good to know which.
          const own = stats.scope(`runtime.rtds.${name}.`);
          const [taken, refused] = [own.counter("update_success"), own.counter("update_rejected")];
          const accept = ({ resources, removed }: ResourceUpdate): void => {
            if (resources.length > 1) throw new Error(`Unexpected RTDS resource length: ${resources.length}`);
            if (resources.length === 0 && removed === undefined) throw new Error("Unexpected RTDS resource length: 0");
            const message = resources[0]?.message as Runtime | undefined;
            if (message !== undefined && message.name !== name) throw new Error(`Unexpected RTDS runtime (expecting ${name}): ${message.name}`);
            runtime.setDiscovered(name, message?.layer ?? {});
          };
          const subscription = subscribe(source, {
            typeName: runtimeType,
            scope: stats.scope("runtime."),
            names: [name],
            setText,
            accept(update) {
              try {
                accept(update);
              } catch (error) {
                refused.inc();
                throw error;
              }
              taken.inc();
              environment.changed();
              resolve();
            },
            onFailure: resolve,
          });
          subscriptions.push(subscription);
          subscription.start();
        }),
    ),
  );
  return subscriptions;
}
