/** /listeners and /init_dump. */
import { isIP } from "node:net";
import { parseAddressText } from "../../net/address.ts";
import { type AdminEndpoint, json, text } from "../request.ts";

export const listeners: AdminEndpoint = {
  path: "/listeners",
  help: "print listener info",
  params: [{ kind: "enum", id: "format", help: "File format to use", options: ["text", "json"] }],
  handle: ({ server, params }) => {
    const all = server.listeners();
    if (params.first("format") !== "json") return text(all.map(({ name, address }) => `${name}::${address}\n`).join(""));
    if (all.length === 0) return json({});
    return json({ listener_statuses: all.map(({ name, address }) => ({ name, local_address: addressJson(address) })) });
  },
};

/** envoy.config.core.v3.Address of a formatted address. */
export function addressJson(formatted: string): object {
  const address = parseAddressText(formatted);
  if (address === undefined || address.kind === "pipe") return { pipe: { path: formatted } };
  return isIP(address.ip) === 0 ? { pipe: { path: formatted } } : { socket_address: { address: address.ip, port_value: address.port } };
}

export const initDump: AdminEndpoint = {
  path: "/init_dump",
  help: "dump current Envoy init manager information (experimental)",
  params: [
    {
      kind: "string",
      id: "mask",
      help: "The desired component to dump unready targets. The mask is parsed as a Protobuf::FieldMask. For example, get the unready targets of all listeners with /init_dump?mask=listener`",
    },
  ],
  handle: ({ server, params }) => {
    const wanted = (params.first("mask") ?? "").split(",").filter((path) => path !== "");
    const found = server.unready().filter(({ name }) => wanted.length === 0 || wanted.some((path) => name.toLowerCase().startsWith(path.toLowerCase())));
    if (found.length === 0) return json({});
    return json({ unready_targets_dumps: found.map(({ name, targets }) => ({ name, target_names: targets })) });
  },
};
