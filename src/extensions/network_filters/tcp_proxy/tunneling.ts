/** TcpProxy.tunneling_config: bytes go through an HTTP proxy, in a CONNECT (or POST) request. */
import type { TcpProxy_TunnelingConfig } from "../../../config/schema/types/envoy.extensions.filters.network.tcp_proxy.v3.d.ts";
import { compileFormat } from "../../../formatter/compile.ts";
import type { Formatter } from "../../../formatter/formatter.ts";
import { compileHeaderMutation, type HeaderMutation } from "../../../router/header-mutation.ts";
import type { CompileContext } from "../../extension.ts";

export interface Tunneling {
  /** host:port of the CONNECT request; may name operators. */
  readonly hostname: Formatter;
  readonly post: boolean;
  readonly postPath: string;
  readonly headers: HeaderMutation | undefined;
}

export function compileTunneling(message: TcpProxy_TunnelingConfig, context: CompileContext): Tunneling {
  if (!message.usePost && message.postPath !== "")
    context.report(message, "post_path", {
      code: "OR3041",
      text: "Can't set a post path when POST method isn't used",
      hint: "set use_post, or leave post_path out",
    });
  return {
    hostname: compileHostname(message, context),
    post: message.usePost,
    postPath: message.postPath === "" ? "/" : message.postPath,
    headers: compileHeaderMutation({ add: message.headersToAdd, remove: [], at: message, removeField: "headers_to_add" }, context),
  };
}

function compileHostname(message: TcpProxy_TunnelingConfig, context: CompileContext): Formatter {
  try {
    return compileFormat(message.hostname, context);
  } catch (error) {
    context.report(message, "hostname", { code: "OR3203", text: (error as Error).message });
    return { format: () => message.hostname };
  }
}
