/**
 * Refuses what this version would silently ignore: every field that is set must be in some module's `honours`, every message that came in
 * an Any must have a row in the registry.
 */

import type { Honours } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import type { Finding, Origin } from "./finding.ts";
import { segment } from "./origins.ts";
import type { LoadBalancingPolicy_Policy as Policy } from "./schema/types/envoy.config.cluster.v3.d.ts";
import { getField } from "./shape.ts";
import { walkMessages } from "./walk.ts";

export interface SupportOptions {
  /** --allow-unsupported: warnings instead of errors. */
  readonly allowUnsupported: boolean;
  /** --disable-extensions: names that are refused though they are there. */
  readonly disabledExtensions?: readonly string[] | undefined;
}

/** Which fields of which messages are acted on: the `honours` of all modules, merged. */
export function mergeHonours(honours: Iterable<Honours>): Map<string, ReadonlySet<string> | "*"> {
  const merged = new Map<string, Set<string> | "*">();
  for (const one of honours) {
    for (const [typeName, fields] of Object.entries(one)) {
      const known = merged.get(typeName);
      if (fields === "*" || known === "*") merged.set(typeName, "*");
      else if (known === undefined) merged.set(typeName, new Set(fields));
      else for (const field of fields) known.add(field);
    }
  }
  return merged;
}

/** Fields whose Any is data for someone else: it is handed on as it is. */
const carried: ReadonlySet<string> = new Set(["envoy.extensions.wasm.v3.PluginConfig.configuration", "envoy.extensions.wasm.v3.VmConfig.configuration"]);

/** OR4001 for each field that is set and not honoured, OR4002 for each extension that is not there, OR4007 for a disabled one. */
export function checkSupported(
  root: object,
  honours: Iterable<Honours>,
  locate: (message: object, field?: string) => Origin | undefined,
  options: SupportOptions,
): Finding[] {
  const merged = mergeHonours(honours);
  const disabled = new Set(options.disabledExtensions ?? []);
  const findings: Finding[] = [];
  const severity = options.allowUnsupported ? "warning" : "error";
  const hint = options.allowUnsupported ? "it is ignored" : "remove it, or run with --allow-unsupported to have it ignored";
  walkMessages(root, ({ message, desc, parent, field, key }) => {
    // Metadata of any type is carried, not acted on; it names no extension.
    if (field?.name === "typed_filter_metadata") return false;
    if (parent !== undefined && field?.special === "any" && carried.has(`${parent.$typeName}.${field.name}`)) return false;
    if (desc.typeName.startsWith("google.protobuf.") && field?.special !== "any") return false;
    // Of load balancing policies the first that is known counts, others are passed over; the cluster says when there is none.
    if (desc.typeName === "envoy.config.cluster.v3.LoadBalancingPolicy.Policy") {
      const policy = (message as unknown as Policy).typedExtensionConfig?.typedConfig?.$typeName;
      if (policy !== undefined && merged.get(policy) === undefined && extensionOfMessage(policy) === undefined) return false;
    }
    // An empty Any names no extension: it switches a filter on.
    if (desc.typeName === "google.protobuf.Any" && parent?.$typeName === "envoy.config.route.v3.FilterConfig" && message["typeUrl"] === "") return false;
    const honoured = merged.get(desc.typeName);
    if (field !== undefined && parent !== undefined) {
      // A field that is itself not honoured was reported with its parent.
      const parentHonours = merged.get(parent.$typeName);
      if (parentHonours !== "*" && parentHonours?.has(field.name) !== true) return false;
      if (field.special === "any") {
        const row = extensionOfMessage(desc.typeName);
        const at = field.label === "one" ? field.name : segment(field.name, key);
        if (row === undefined && honoured === undefined) {
          // The settings of a filter that is switched off are not looked at.
          if (parent["disabled"] === true && parent.$typeName === "envoy.config.route.v3.FilterConfig") return false;
          const name = field.label === "map" ? key : parent["name"];
          const called = typeof name === "string" && name !== "" ? `extension "${name}" (${desc.typeName})` : `extension ${desc.typeName}`;
          const optional = parent["isOptional"] === true;
          findings.push({
            code: "OR4002",
            severity: optional ? "warning" : severity,
            text: `${called} is not supported`,
            origin: locate(parent, at),
            hint: optional ? "it is optional, and left out" : hint,
          });
          return false;
        }
        if (row !== undefined && disabled.has(row.name)) {
          findings.push({
            code: "OR4007",
            severity: "error",
            text: `extension ${row.name} is disabled by --disable-extensions`,
            origin: locate(parent, at),
            hint: undefined,
          });
          return false;
        }
      }
    }
    if (honoured === "*") return true;
    for (const set of desc.fields) {
      if (honoured?.has(set.name) === true || getField(message, set) === undefined) continue;
      findings.push({ code: "OR4001", severity, text: `"${set.name}" of ${desc.typeName} is not supported`, origin: locate(message, set.name), hint });
    }
    return true;
  });
  return findings;
}
