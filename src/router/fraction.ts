/** Fractions with a runtime key (RuntimeFractionalPercent), as every module that has one needs them. */
import type { RuntimeFractionalPercent } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { FractionalPercent } from "../config/schema/types/envoy.type.v3.d.ts";
import type { Honours } from "../extensions/extension.ts";
import type { Fraction, Runtime } from "../runtime/runtime.ts";

export const honours: Honours = {
  "envoy.config.core.v3.RuntimeFractionalPercent": "*",
  "envoy.type.v3.FractionalPercent": "*",
};

const denominators = [100, 10_000, 1_000_000] as const;

export function compileFraction(message: FractionalPercent): Fraction {
  return { numerator: message.numerator, denominator: denominators[message.denominator] ?? 100 };
}

/** Percent, 0..100. */
export function percentOf(message: FractionalPercent): number {
  const { numerator, denominator } = compileFraction(message);
  return Math.min(100, (numerator * 100) / denominator);
}

/** Whether a random number falls into the fraction, the runtime key considered at each call. An unset default is 0. */
export function compileRuntimeFraction(message: RuntimeFractionalPercent, runtime: Runtime): (random: number) => boolean {
  const fallback: Fraction = message.defaultValue === undefined ? { numerator: 0, denominator: 100 } : compileFraction(message.defaultValue);
  const key = message.runtimeKey;
  return (random) => runtime.snapshot.featureEnabled(key, fallback, random);
}
