/** Changes of heads that a processor asks for. */
import type { HeaderMutation } from "../../../config/schema/types/envoy.service.ext_proc.v3.d.ts";
import { isFieldName } from "../../../http/field-rules.ts";
import { appendField, dropField, writeField } from "../../../http/field-writing.ts";
import type { HeaderMap } from "../../../http/header-map.ts";
import type { MutationRules } from "../../../matching/header-mutation-rules.ts";

/** HeaderValueOption.HeaderAppendAction. */
const appendAction = { appendIfExistsOrAdd: 0, addIfAbsent: 1, overwriteIfExistsOrAdd: 2, overwriteIfExists: 3 } as const;

/** Applies them; how many the rules refused, or undefined where trying is a fault. `onRefused` hears of each. */
export function applyMutation(map: HeaderMap, mutation: HeaderMutation | undefined, rules: MutationRules, onRefused: () => void): boolean {
  if (mutation === undefined) return true;
  const allowed = (name: string, removes: boolean): boolean | undefined => {
    const verdict = rules.check(name, removes);
    if (verdict === "allowed") return true;
    onRefused();
    return verdict === "error" ? undefined : false;
  };
  for (const given of mutation.removeHeaders) {
    const name = given.toLowerCase();
    const may = allowed(name, true);
    if (may === undefined) return false;
    if (may) dropField(map, name);
  }
  for (const option of mutation.setHeaders) {
    const { header } = option;
    if (header === undefined) continue;
    const name = header.key.toLowerCase();
    const value = header.rawValue.length > 0 ? Buffer.from(header.rawValue).toString("latin1") : Buffer.from(header.value).toString("latin1");
    if (!isFieldName(name) || /[\0\r\n]/.test(value)) {
      onRefused();
      continue;
    }
    const may = allowed(name, false);
    if (may === undefined) return false;
    if (!may) continue;
    const exists = map.has(name);
    const { append } = option as { append?: boolean | undefined };
    const action = append === undefined ? option.appendAction : append ? appendAction.appendIfExistsOrAdd : appendAction.overwriteIfExistsOrAdd;
    // Unset means to overwrite here, unlike elsewhere in the API: Envoy's filter says so.
    if (append === true) appendField(map, name, value);
    else if (action === appendAction.addIfAbsent) {
      if (!exists) appendField(map, name, value);
    } else if (action === appendAction.overwriteIfExists) {
      if (exists) writeField(map, name, value);
    } else writeField(map, name, value);
  }
  return true;
}
