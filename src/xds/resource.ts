/** Resources of a DiscoveryResponse, unpacked and checked. */
import type { Finding, Origin } from "../config/finding.ts";
import { loadMessage, type MessageSource } from "../config/load.ts";
import type { UnknownFieldPolicy } from "../config/reader.ts";
import type { DiscoveryResponse } from "../config/schema/types/envoy.service.discovery.v3.d.ts";
import { getLogger } from "../log/log.ts";

const log = getLogger("config");

/** One resource as it came. */
export interface Resource {
  readonly name: string;
  readonly message: { readonly $typeName: string };
  /** Its own, in the delta protocol; else that of the response. */
  readonly version: string;
  /** What is wrong in messages that stand packed inside of it: whoever uses it refuses it, and only it. */
  readonly problems: readonly Finding[];
  locate(message: object, field?: string): Origin | undefined;
  isBroken(message: object, field: string): boolean;
}

export type ReadResources =
  /** No DiscoveryResponse. */
  | { readonly kind: "unreadable"; readonly why: string }
  /** One with mistakes, or with resources of another type. */
  | { readonly kind: "refused"; readonly why: string }
  | { readonly kind: "resources"; readonly resources: readonly Resource[]; readonly version: string };

/** What to do with fields that nobody knows in what comes while running. */
export interface UnknownFields {
  readonly policy: UnknownFieldPolicy;
  /** So many were let pass. */
  counted(fields: number): void;
}

const warnOnly: UnknownFields = { policy: "warn", counted: () => {} };

/** Reads a DiscoveryResponse. */
export function readResources(source: MessageSource, typeName: string, unknownFields: UnknownFields = warnOnly): ReadResources {
  const loaded = loadMessage<DiscoveryResponse>(source, "envoy.service.discovery.v3.DiscoveryResponse", { unknownFields: unknownFields.policy });
  const response = loaded.message;
  if (response === undefined) return { kind: "unreadable", why: describe(loaded.findings) };
  const errors = loaded.findings.filter(({ severity }) => severity === "error");
  const inside = new Map<number, Finding[]>();
  for (const error of errors) {
    // What is packed in a resource is that resource's business; mistakes of the resource itself refuse the whole response, as with Envoy.
    const at = /^resources\[(\d+)\].*\.typed_config\b/.exec(error.origin?.path ?? "");
    if (at === null) return { kind: "refused", why: describe(errors) };
    const index = Number(at[1]);
    inside.set(index, [...(inside.get(index) ?? []), error]);
  }
  const other = response.resources.find((message) => message.$typeName !== typeName);
  if (other !== undefined) return { kind: "refused", why: `Unable to unpack as ${typeName}: ${other.$typeName}` };
  const resources = response.resources.map((message, index) => ({
    name: nameOf(message),
    message,
    version: response.versionInfo,
    problems: inside.get(index) ?? [],
    locate: loaded.locate,
    isBroken: loaded.isBroken,
  }));
  for (const finding of loaded.findings) if (finding.severity === "warning") log.warning(describe([finding]));
  if (unknownFields.policy === "warn" && loaded.unknownFieldCount > 0) unknownFields.counted(loaded.unknownFieldCount);
  return { kind: "resources", resources, version: response.versionInfo };
}

function nameOf(message: { readonly $typeName: string }): string {
  const { clusterName, name } = message as { readonly clusterName?: string; readonly name?: string };
  return clusterName ?? name ?? "";
}

/** All that was found, in one line of the log. */
export function describe(findings: readonly Finding[]): string {
  return findings
    .map(({ text, origin }) => (origin === undefined || origin.line === 0 ? text : `${origin.file}:${origin.line}:${origin.column}: ${text}`))
    .join("; ");
}
