/** proxy_call_foreign_function: what Envoy offers modules beyond the ABI. Arguments and results are bytes, mostly protobuf. */
import { createPublicKey, verify } from "node:crypto";
import { deflateSync, inflateSync } from "node:zlib";
import { TextFilterState } from "../../http/text-filter-state.ts";
import { status } from "./abi.ts";
import type { WasmContext } from "./context.ts";
import { readFields } from "./wire.ts";

type ForeignFunction = (context: WasmContext, argument: Buffer) => Buffer | number;

/** What uncompressing may grow to, bytes. */
const maxUncompressed = 64 * 1024 * 1024;
const nothing = Buffer.alloc(0);

export const foreignFunctions: ReadonlyMap<string, ForeignFunction> = new Map<string, ForeignFunction>([
  ["compress", (_context, argument) => deflateSync(argument)],
  [
    "uncompress",
    (_context, argument) => {
      try {
        return inflateSync(argument, { maxOutputLength: maxUncompressed });
      } catch {
        return status.serializationFailure;
      }
    },
  ],
  [
    "clear_route_cache",
    (context) => {
      context.clearRouteCache();
      return nothing;
    },
  ],
  // envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments: path 1, value 2, span 3
  [
    "set_envoy_filter_state",
    (context, argument) => {
      const fields = readFields(argument);
      const info = context.properties?.info;
      if (fields === undefined) return status.badArgument;
      if (info === undefined) return status.notFound;
      info.setFilterState(fields.text(1), new TextFilterState(fields.text(2)));
      return nothing;
    },
  ],
  // DeclarePropertyArguments: a name, and how others see what is set under it. Values are bytes here whatever is declared.
  [
    "declare_property",
    (_context, argument) => {
      const fields = readFields(argument);
      return fields === undefined || fields.text(1) === "" ? status.badArgument : nothing;
    },
  ],
  // VerifySignatureArguments: public_key 1 (DER), hash_function 2, signature 3, text 4; result: bool result 1, string error 2
  [
    "verify_signature",
    (_context, argument) => {
      const fields = readFields(argument);
      if (fields === undefined) return status.badArgument;
      let error = "";
      try {
        const key = createPublicKey({ key: fields.bytes(1), format: "der", type: "spki" });
        if (!verify(fields.text(2).toLowerCase(), fields.bytes(4), key, fields.bytes(3))) error = "Failed to verify digest. Error code: 0";
      } catch {
        error = `${fields.text(2)} is not supported.`;
      }
      if (error === "") return Buffer.from([0x08, 1]);
      const text = Buffer.from(error).subarray(0, 127);
      return Buffer.concat([Buffer.from([0x12, text.length]), text]);
    },
  ],
]);
