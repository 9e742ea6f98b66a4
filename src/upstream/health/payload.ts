/** Bytes that a check sends or waits for. */
import type { HealthCheck_Payload } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";

export function compilePayload(payload: HealthCheck_Payload, context: CompileContext): Buffer {
  const { payload: given } = payload;
  if (given.case === "binary") return Buffer.from(given.value);
  const text = given.value ?? "";
  if (text.length % 2 !== 0 || /[^0-9a-fA-F]/.test(text)) {
    context.report(payload, "text", { code: "OR3050", text: `invalid hex string '${text}'`, hint: "text is hexadecimal: 50494E47 for PING" });
    return Buffer.alloc(0);
  }
  return Buffer.from(text, "hex");
}

/** Whether all segments are in the data in this order; other bytes may be before, between and behind. */
export function payloadMatches(segments: readonly Buffer[], data: Buffer): boolean {
  let at = 0;
  for (const segment of segments) {
    const found = data.indexOf(segment, at);
    if (found < 0) return false;
    at = found + segment.length;
  }
  return true;
}
