/** The state-of-the-world variant: each answer holds all there is of its type (clusters, listeners), or all that was asked for. */
import { encodeMessage } from "../../config/binary-encode.ts";
import { emptyMessage } from "../../config/load.ts";
import type { DiscoveryRequest } from "../../config/schema/types/envoy.service.discovery.v3.d.ts";
import { readResponse } from "../resource.ts";
import { errorDetail } from "./error-detail.ts";
import type { Answer, Protocol, TypeState } from "./mux.ts";

export const stateOfTheWorld: Protocol = {
  read(bytes, unknownFields): Answer | undefined {
    const source = { kind: "bytes", name: "a discovery response", bytes } as const;
    const read = readResponse(source, unknownFields);
    if (read.kind === "unreadable") return undefined;
    const { response } = read;
    return {
      typeName: response.typeUrl.slice(response.typeUrl.lastIndexOf("/") + 1),
      nonce: response.nonce,
      version: response.versionInfo,
      identifier: response.controlPlane?.identifier ?? "",
      refusal: read.kind === "refused" ? read.why : undefined,
      resources: read.kind === "refused" ? [] : read.resources,
      removed: undefined,
    };
  },
  request: (state, wanted, _isFirst, node) => request(state, wanted, state.nonce, undefined, node),
  acknowledge: (state, wanted, nonce, refusal, node) => request(state, wanted, nonce, refusal, node),
  taken(state, { version }) {
    state.version = version;
  },
};

function request(state: TypeState, wanted: ReadonlySet<string>, nonce: string, refusal: string | undefined, node: object | undefined): Uint8Array {
  const message: DiscoveryRequest = {
    ...emptyMessage("envoy.service.discovery.v3.DiscoveryRequest"),
    versionInfo: state.version,
    ...(node !== undefined && { node: node as never }),
    resourceNames: [...wanted],
    typeUrl: `type.googleapis.com/${state.typeName}`,
    responseNonce: nonce,
    ...(refusal !== undefined && { errorDetail: errorDetail(refusal) }),
  };
  return encodeMessage(message);
}
