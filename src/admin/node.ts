/** envoy.config.core.v3.Node as this process shows it: the configured one, with what this build is and can do. */
import { extensions } from "../extensions/registry.ts";
import { adminFilterMessage } from "./message.ts";
import type { AdminServer } from "./server.ts";
import { type Typed, typed } from "./typed.ts";

export function nodeMessage(server: AdminServer): Typed {
  const [commit, version = "", status, build, tls] = server.version.split("/");
  const [majorNumber, minorNumber, patch] = version.split(".").map(Number);
  const disabled = new Set(server.options.disabledExtensions);
  return {
    ...typed("envoy.config.core.v3.Node", { id: "", cluster: "", dynamicParameters: {}, clientFeatures: [], listeningAddresses: [] }),
    ...server.config.bootstrap.node,
    ...{
      userAgentVersionType: {
        case: "userAgentBuildVersion",
        value: typed("envoy.config.core.v3.BuildVersion", {
          version: typed("envoy.type.v3.SemanticVersion", { majorNumber, minorNumber, patch }),
          metadata: { "revision.sha": commit, "revision.status": status, "build.type": build, "ssl.version": tls },
        }),
      },
      extensions: extensions
        .filter((row) => !row.messages.includes(adminFilterMessage))
        .map(({ name, category, messages }) =>
          typed("envoy.config.core.v3.Extension", {
            name,
            category,
            typeDescriptor: "",
            disabled: disabled.has(name) || disabled.has(`${category}/${name}`),
            typeUrls: messages,
          }),
        ),
    },
  };
}
