/** Hash policies of routes, for consistent hashing. Hashes are Envoy's: xxHash64 with seed 0, combined by rotation. */
import xxhash from "xxhash-wasm";
import { durationMs } from "../config/message.ts";
import type { RouteAction_HashPolicy } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { RequestHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { queryParameter } from "../matching/query-parameters.ts";
import { compileRegexRewrite, toBytes } from "../matching/string-matcher.ts";
import { cookieValue } from "./cookie.ts";
import type { HashPolicy } from "./route.ts";

export const honours: Honours = {
  "envoy.config.route.v3.RouteAction.HashPolicy": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.Header": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.Cookie": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter": "*",
  "envoy.config.route.v3.RouteAction.HashPolicy.FilterState": "*",
};

const hasher = await xxhash();

/** xxHash64 of a byte string (latin1 code units). */
export function hashBytes(text: string, seed = 0n): bigint {
  return hasher.h64Raw(Buffer.from(text, "latin1"), seed);
}

type Step = (headers: RequestHeaders, info: StreamInfo, addCookie: (setCookie: string) => void) => bigint | undefined;

function compileStep(message: RouteAction_HashPolicy, context: CompileContext): Step {
  const specifier = message.policySpecifier;
  switch (specifier.case) {
    case "header": {
      const name = specifier.value.headerName.toLowerCase();
      const rewrite = specifier.value.regexRewrite === undefined ? undefined : compileRegexRewrite(specifier.value.regexRewrite, context);
      return (headers) => {
        let values = headers.getAll(name);
        if (values.length === 0) return undefined;
        if (rewrite !== undefined) values = values.map((value) => rewrite.regex.replaceAll(value, rewrite.substitution));
        if (values.length === 1) return hashBytes(values[0]);
        // Several values count as a set: sorted, one hash the seed of the next.
        values.sort();
        let hash = 0n;
        for (const value of values) hash = hashBytes(value, hash);
        return hash;
      };
    }
    case "cookie": {
      const { name, path, attributes } = specifier.value;
      const ttlMs = durationMs(specifier.value.ttl);
      const wire = toBytes(name);
      return (headers, info, addCookie) => {
        let value = cookieValue(headers, wire);
        if ((value === undefined || value === "") && ttlMs !== undefined) {
          const remote = info.downstreamRemoteAddress?.text ?? "";
          const local = info.downstreamLocalAddress?.text ?? "";
          value = hashBytes(remote + local)
            .toString(16)
            .padStart(16, "0");
          let cookie = `${wire}="${value}"`;
          if (ttlMs > 0) cookie += `; Max-Age=${Math.floor(ttlMs / 1000)}`;
          if (path !== "") cookie += `; Path=${toBytes(path)}`;
          for (const attribute of attributes)
            cookie += attribute.value === "" ? `; ${toBytes(attribute.name)}` : `; ${toBytes(attribute.name)}=${toBytes(attribute.value)}`;
          cookie += "; HttpOnly";
          addCookie(cookie);
        }
        return value === undefined || value === "" ? undefined : hashBytes(value);
      };
    }
    case "connectionProperties": {
      if (!specifier.value.sourceIp) return () => undefined;
      return (_headers, info) => {
        const address = info.downstreamRemoteAddress;
        return address?.kind === "ip" ? hashBytes(address.ip) : undefined;
      };
    }
    case "queryParameter": {
      const name = toBytes(specifier.value.name);
      return (headers) => {
        const value = headers.path === undefined ? undefined : queryParameter(headers.path, name);
        return value === undefined ? undefined : hashBytes(value);
      };
    }
    case "filterState": {
      const key = specifier.value.key;
      return (_headers, info) => {
        const text = info.getFilterState(key)?.serializeAsString();
        return text === undefined ? undefined : hashBytes(toBytes(text));
      };
    }
    default:
      return () => undefined;
  }
}

/** All hash policies of a route in order; undefined where there is none. */
export function compileHashPolicy(messages: readonly RouteAction_HashPolicy[], context: CompileContext): HashPolicy | undefined {
  if (messages.length === 0) return undefined;
  const steps = messages.map((message) => ({ step: compileStep(message, context), terminal: message.terminal }));
  return {
    hash(headers, info, addCookie) {
      let hash: bigint | undefined;
      for (const { step, terminal } of steps) {
        const next = step(headers, info, addCookie);
        if (next !== undefined) {
          // Rotating the old value keeps two equal parts from cancelling out (Envoy's HashPolicyImpl).
          const old = hash === undefined ? 0n : BigInt.asUintN(64, (hash << 1n) | (hash >> 63n));
          hash = old ^ next;
        }
        if (terminal && hash !== undefined) break;
      }
      return hash;
    },
  };
}
