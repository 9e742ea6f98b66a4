/** Fields of the bootstrap that concern no thread alone: what clusters fall back on, and checks of what is only accepted. */
import type { AnyMessage } from "../config/message.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { ClusterDefaults, CompileContext } from "../extensions/extension.ts";

export function clusterDefaults(bootstrap: Bootstrap): ClusterDefaults {
  return {
    upstreamBindConfig: bootstrap.clusterManager?.upstreamBindConfig,
    dnsResolver: bootstrap.typedDnsResolverConfig?.typedConfig,
    dnsResolvers: bootstrap.dnsResolutionConfig?.resolvers ?? [],
  };
}

const regexEngine = "envoy.extensions.regex_engines.v3.GoogleRE2";
const socketInterface = "envoy.extensions.network.socket_interface.v3.DefaultSocketInterface";
const listenerManager = "envoy.config.bootstrap.v3.ListenerManager";

export function checkBootstrapFields(bootstrap: Bootstrap, context: CompileContext): void {
  const expect = (config: { readonly name: string; readonly typedConfig?: AnyMessage | undefined } | undefined, type: string): void => {
    const given = config?.typedConfig?.$typeName ?? "";
    if (config === undefined || given === type) return;
    context.report(config, config.typedConfig === undefined ? undefined : "typed_config", {
      code: "OR3001",
      text: `Didn't find a registered implementation for '${config.name}' with type URL: '${given}'`,
      hint: `its typed_config is a ${type}`,
    });
  };
  expect(bootstrap.defaultRegexEngine, regexEngine);
  expect(bootstrap.listenerManager, listenerManager);
  for (const extension of bootstrap.bootstrapExtensions) expect(extension, socketInterface);
}
