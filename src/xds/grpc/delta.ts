/** The incremental variant: each answer holds what is new or has changed, and names what is gone. */
import { encodeMessage } from "../../config/binary-encode.ts";
import { emptyMessage } from "../../config/load.ts";
import type { DeltaDiscoveryRequest } from "../../config/schema/types/envoy.service.discovery.v3.d.ts";
import { readDelta } from "../resource.ts";
import { errorDetail } from "./error-detail.ts";
import type { Answer, Protocol, TypeState } from "./mux.ts";

export const delta: Protocol = {
  read(bytes, unknownFields): Answer | undefined {
    const read = readDelta({ kind: "bytes", name: "a discovery response", bytes }, unknownFields);
    if (read.kind === "unreadable") return undefined;
    const { response } = read;
    return {
      typeName: response.typeUrl.slice(response.typeUrl.lastIndexOf("/") + 1),
      nonce: response.nonce,
      version: response.systemVersionInfo,
      identifier: response.controlPlane?.identifier ?? "",
      refusal: read.kind === "refused" ? read.why : undefined,
      resources: read.kind === "refused" ? [] : read.resources,
      removed: response.removedResources,
    };
  },
  request(state, wanted, isFirst, node) {
    const told = state.told ?? new Set<string>();
    const subscribe = [...wanted].filter((name) => !told.has(name));
    const unsubscribe = [...told].filter((name) => !wanted.has(name));
    for (const name of unsubscribe) state.versions.delete(name);
    // The server of a new stream does not know what this one has.
    return request(state, { subscribe, unsubscribe, versions: isFirst ? state.versions : undefined, node });
  },
  acknowledge(state, wanted, nonce, refusal, node) {
    const told = state.told ?? new Set<string>();
    const subscribe = [...wanted].filter((name) => !told.has(name));
    const unsubscribe = state.watchers.size === 0 ? [] : [...told].filter((name) => !wanted.has(name));
    return request(state, { subscribe, unsubscribe, nonce, refusal, node });
  },
  taken(state, { resources, removed }) {
    for (const { name, version } of resources) state.versions.set(name, version);
    for (const name of removed ?? []) state.versions.delete(name);
  },
};

interface Parts {
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly versions?: ReadonlyMap<string, string> | undefined;
  readonly nonce?: string;
  readonly refusal?: string | undefined;
  readonly node: object | undefined;
}

function request({ typeName }: TypeState, { subscribe, unsubscribe, versions, nonce = "", refusal, node }: Parts): Uint8Array {
  const message: DeltaDiscoveryRequest = {
    ...emptyMessage("envoy.service.discovery.v3.DeltaDiscoveryRequest"),
    ...(node !== undefined && { node: node as never }),
    typeUrl: `type.googleapis.com/${typeName}`,
    resourceNamesSubscribe: [...subscribe],
    resourceNamesUnsubscribe: [...unsubscribe],
    initialResourceVersions: Object.fromEntries(versions ?? []),
    responseNonce: nonce,
    ...(refusal !== undefined && { errorDetail: errorDetail(refusal) }),
  };
  return encodeMessage(message);
}
