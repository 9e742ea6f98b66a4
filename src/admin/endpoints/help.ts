/** /help, and the same list under a wrong path. */
import type { AdminEndpoint } from "../request.ts";

export function helpLines(endpoints: readonly AdminEndpoint[]): string {
  let out = "admin commands are:\n";
  for (const endpoint of endpoints) {
    out += `  ${endpoint.path}${endpoint.mutates === true ? " (POST)" : ""}: ${endpoint.help}\n`;
    for (const param of endpoint.params ?? []) {
      out += `      ${param.id}: ${param.help}${param.kind === "enum" ? `; One of (${(param.options ?? []).join(", ")})` : ""}\n`;
    }
  }
  return out;
}
