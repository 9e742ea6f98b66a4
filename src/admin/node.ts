/** envoy.config.core.v3.Node as this process shows it: the configured one, with what this build is and can do. */
import { extensions } from "../extensions/registry.ts";
import { adminFilterMessage } from "./message.ts";
import { type Typed, typed } from "./typed.ts";

export interface NodeFacts {
  /** "commit/version/state/build/tls", as --version prints it. */
  readonly version: string;
  readonly disabledExtensions: readonly string[];
  readonly node: object | undefined;
}

export function nodeFacts(server: {
  readonly version: string;
  readonly options: { readonly disabledExtensions: readonly string[] };
  readonly config: { readonly bootstrap: { readonly node?: object | undefined } };
}): NodeFacts {
  return { version: server.version, disabledExtensions: server.options.disabledExtensions, node: server.config.bootstrap.node };
}

export function nodeMessage(facts: NodeFacts): Typed {
  const [commit, version = "", status, build, tls] = facts.version.split("/");
  const [majorNumber, minorNumber, patch] = version.split(".").map(Number);
  const disabled = new Set(facts.disabledExtensions);
  return {
    ...typed("envoy.config.core.v3.Node", { id: "", cluster: "", dynamicParameters: {}, clientFeatures: [], listeningAddresses: [] }),
    ...facts.node,
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
