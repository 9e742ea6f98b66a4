/** What is said to and by the processor, as octets. */
import { decodeMessage } from "../../../config/binary.ts";
import { encodeMessage } from "../../../config/binary-encode.ts";
import type { JsonObject } from "../../../config/message.ts";
import { envoySchema } from "../../../config/schema/registry.ts";
import type { HeaderMap as HeaderMapMessage } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type { ProcessingRequest, ProcessingResponse } from "../../../config/schema/types/envoy.service.ext_proc.v3.d.ts";
import { fieldEntries } from "../../../http/field-writing.ts";
import type { HeaderMap } from "../../../http/header-map.ts";

const pkg = "envoy.service.ext_proc.v3.";

export function headerMapMessage(map: HeaderMap, forwards: (name: string) => boolean): HeaderMapMessage {
  const entries = fieldEntries(map);
  const headers: HeaderMapMessage["headers"] = [];
  for (let i = 0; i < entries.length; i += 2)
    if (forwards(entries[i]))
      headers.push({ $typeName: "envoy.config.core.v3.HeaderValue", key: entries[i], value: "", rawValue: Buffer.from(entries[i + 1], "latin1") });
  return { $typeName: "envoy.config.core.v3.HeaderMap", headers };
}

export type RequestCase = NonNullable<ProcessingRequest["request"]["case"]>;

export interface RequestExtras {
  readonly metadata: Record<string, JsonObject>;
  readonly attributes: JsonObject | undefined;
  readonly observability: boolean;
  /** Told with the first message. */
  readonly bodyModes: { readonly request: number; readonly response: number; readonly withoutWaiting: boolean } | undefined;
}

export function encodeRequest(request: ProcessingRequest["request"], extras: RequestExtras): Buffer {
  const { bodyModes } = extras;
  const message: ProcessingRequest = {
    $typeName: `${pkg}ProcessingRequest`,
    request,
    metadataContext: { $typeName: "envoy.config.core.v3.Metadata", filterMetadata: extras.metadata, typedFilterMetadata: {} },
    attributes: extras.attributes === undefined ? {} : { "envoy.filters.http.ext_proc": extras.attributes },
    observabilityMode: extras.observability,
    protocolConfig:
      bodyModes === undefined
        ? undefined
        : {
            $typeName: `${pkg}ProtocolConfiguration`,
            requestBodyMode: bodyModes.request as 0,
            responseBodyMode: bodyModes.response as 0,
            sendBodyWithoutWaitingForHeaderResponse: bodyModes.withoutWaiting,
          },
  };
  return encodeMessage(message);
}

/** undefined: it is none. */
export function decodeResponse(data: Buffer): ProcessingResponse | undefined {
  const desc = envoySchema().message(`${pkg}ProcessingResponse`);
  if (desc === undefined) return undefined;
  try {
    return decodeMessage(desc, data, undefined) as unknown as ProcessingResponse;
  } catch {
    return undefined;
  }
}
