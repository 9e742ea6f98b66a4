/** FilterStateValue: a value under a name, made with a format; shared by the HTTP and the network filter that set filter state. */
import type { FilterStateValue } from "../../config/schema/types/envoy.extensions.filters.common.set_filter_state.v3.d.ts";
import { compileSubstitutionFormatString } from "../../formatter/compile.ts";
import type { RequestHeaders } from "../../http/header-map.ts";
import type { StreamInfo } from "../../http/stream-info.ts";
import { TextFilterState } from "../../http/text-filter-state.ts";
import type { CompileContext, Honours } from "../extension.ts";

export const honours: Honours = {
  // Nothing here lives longer than its stream, or is written twice: read_only and sharing say nothing more.
  "envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue": "*",
};

export type FilterStateSetter = (info: StreamInfo, headers: RequestHeaders | undefined) => void;

export function compileFilterState(message: FilterStateValue, context: CompileContext): FilterStateSetter {
  const key = message.key.value ?? "";
  const { factoryKey, skipIfEmpty } = message;
  const factory = factoryKey === "" ? key : factoryKey;
  // Every factory that the rest of the proxy reads takes a text.
  if (!factories.has(factory))
    context.report(message, factoryKey === "" ? "object_key" : "factory_key", {
      code: "OR3710",
      text: `'${factory}' does not have an object factory`,
      hint: `use one of ${[...factories].join(", ")}`,
    });
  const format = message.value.case === "formatString" ? compileSubstitutionFormatString(message.value.value, context) : undefined;
  return (info, headers) => {
    const value =
      format?.format({ info, requestHeaders: headers, responseHeaders: undefined, responseTrailers: undefined, localReplyBody: "", accessLogType: "NotSet" }) ??
      "";
    if (value === "" && skipIfEmpty) return;
    info.setFilterState(key, new TextFilterState(value));
  };
}

const factories: ReadonlySet<string> = new Set([
  "envoy.string",
  "envoy.hashable_string",
  "envoy.network.upstream_server_name",
  "envoy.network.upstream_subject_alt_names",
  "envoy.network.application_protocols",
  "envoy.tcp_proxy.cluster",
  "envoy.upstream.dynamic_host",
  "envoy.upstream.dynamic_port",
  "envoy.filters.listener.original_dst.local_ip",
  "envoy.filters.listener.original_dst.remote_ip",
  "envoy.network.transport_socket.original_dst_address",
  "envoy.ratelimit.hits_addend",
  "envoy.tls.certificate_mappers.on_demand_secret",
]);
