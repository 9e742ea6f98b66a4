/** What several HTTP filters share. */
import type { RuntimeFractionalPercent } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { FractionalPercent } from "../../config/schema/types/envoy.type.v3.d.ts";
import { compileFraction } from "../../router/fraction.ts";
import type { Fraction } from "../../runtime/runtime.ts";
import type { CompileContext } from "../extension.ts";

/** For runtime fractions. */
export function randomInteger(): number {
  return Math.floor(Math.random() * 0x1_0000_0000);
}

/** Whether a fraction with a runtime key takes this request; an absent one is `fallback`. */
export function compileEnabled(message: RuntimeFractionalPercent | undefined, fallback: boolean, context: CompileContext): () => boolean {
  if (message === undefined) return () => fallback;
  const fraction: Fraction = message.defaultValue === undefined ? { numerator: 0, denominator: 100 } : compileFraction(message.defaultValue);
  const { runtimeKey } = message;
  const { runtime } = context;
  return () => runtime.snapshot.featureEnabled(runtimeKey, fraction, randomInteger());
}

export function compilePercentage(message: FractionalPercent | undefined): Fraction {
  return message === undefined ? { numerator: 0, denominator: 100 } : compileFraction(message);
}
