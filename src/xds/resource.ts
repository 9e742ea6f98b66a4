/** Resources of a DiscoveryResponse, unpacked and checked. */
import type { Finding, Origin } from "../config/finding.ts";
import { loadMessage, type MessageResult, type MessageSource } from "../config/load.ts";
import type { UnknownFieldPolicy } from "../config/reader.ts";
import type { DeltaDiscoveryResponse, DiscoveryResponse, Resource as WrappedResource } from "../config/schema/types/envoy.service.discovery.v3.d.ts";
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

export type ReadResources<R = DiscoveryResponse> =
  /** No response. */
  | { readonly kind: "unreadable"; readonly why: string }
  /** One with mistakes, or with resources of another type. */
  | { readonly kind: "refused"; readonly why: string; readonly response: R }
  | { readonly kind: "resources"; readonly resources: readonly Resource[]; readonly version: string; readonly response: R };

/** What to do with fields that nobody knows in what comes while running. */
export interface UnknownFields {
  readonly policy: UnknownFieldPolicy;
  /** So many were let pass. */
  counted(fields: number): void;
}

const warnOnly: UnknownFields = { policy: "warn", counted: () => {} };

/** Reads a DiscoveryResponse. `typeName`: of its resources; without it that is what the response says. */
export function readResources(source: MessageSource, typeName: string | undefined, unknownFields: UnknownFields = warnOnly): ReadResources {
  const loaded = loadMessage<DiscoveryResponse>(source, "envoy.service.discovery.v3.DiscoveryResponse", { unknownFields: unknownFields.policy });
  return collect(loaded, typeName, unknownFields, ({ resources, versionInfo }) => ({
    version: versionInfo,
    // A resource may come wrapped, with a name and a time to live of its own.
    items: resources.map((message) => {
      const wrapped = message.$typeName === wrapperType ? (message as unknown as WrappedResource) : undefined;
      return { message: wrapped === undefined ? message : wrapped.resource, name: wrapped?.name, version: versionInfo };
    }),
  }));
}

/** The same from a server, whose response says what it holds. */
export function readResponse(source: MessageSource, unknownFields: UnknownFields): ReadResources {
  return readResources(source, undefined, unknownFields);
}

/** Reads a DeltaDiscoveryResponse. */
export function readDelta(source: MessageSource, unknownFields: UnknownFields): ReadResources<DeltaDiscoveryResponse> {
  const loaded = loadMessage<DeltaDiscoveryResponse>(source, "envoy.service.discovery.v3.DeltaDiscoveryResponse", { unknownFields: unknownFields.policy });
  return collect(loaded, undefined, unknownFields, ({ resources, systemVersionInfo }) => ({
    version: systemVersionInfo,
    items: resources.map(({ resource, name, version }) => ({ message: resource, name, version })),
  }));
}

const wrapperType = "envoy.service.discovery.v3.Resource";

interface Item {
  readonly message: { readonly $typeName: string } | undefined;
  readonly name: string | undefined;
  readonly version: string;
}

function collect<R extends { readonly typeUrl: string; $typeName: string }>(
  loaded: MessageResult<R>,
  typeName: string | undefined,
  unknownFields: UnknownFields,
  open: (response: R) => { readonly version: string; readonly items: readonly Item[] },
): ReadResources<R> {
  const response = loaded.message;
  if (response === undefined) return { kind: "unreadable", why: describe(loaded.findings) };
  const errors = loaded.findings.filter(({ severity }) => severity === "error");
  const inside = new Map<number, Finding[]>();
  for (const error of errors) {
    // What is packed in a resource is that resource's business; mistakes of the resource itself refuse the whole response, as with Envoy.
    const at = /^resources\[(\d+)\].*\.typed_config\b/.exec(error.origin?.path ?? "");
    if (at === null) return { kind: "refused", why: describe(errors), response };
    const index = Number(at[1]);
    inside.set(index, [...(inside.get(index) ?? []), error]);
  }
  const { items, version } = open(response);
  const expected = typeName ?? response.typeUrl.slice(response.typeUrl.lastIndexOf("/") + 1);
  const resources: Resource[] = [];
  for (const [index, { message, name, version: own }] of items.entries()) {
    // Only a heartbeat: the resource is what it was.
    if (message === undefined) continue;
    if (message.$typeName !== expected) return { kind: "refused", why: `Unable to unpack as ${expected}: ${message.$typeName}`, response };
    resources.push({
      name: name || nameOf(message),
      message,
      version: own,
      problems: inside.get(index) ?? [],
      locate: loaded.locate,
      isBroken: loaded.isBroken,
    });
  }
  for (const finding of loaded.findings) if (finding.severity === "warning") log.warning(describe([finding]));
  if (unknownFields.policy === "warn" && loaded.unknownFieldCount > 0) unknownFields.counted(loaded.unknownFieldCount);
  return { kind: "resources", resources, version, response };
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
