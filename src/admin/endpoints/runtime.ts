/** /runtime and /runtime_modify. */
import { RuntimeRefusal } from "../../runtime/layers.ts";
import { type AdminEndpoint, json, ok, text } from "../request.ts";

export const runtime: AdminEndpoint = {
  path: "/runtime",
  help: "print runtime values",
  handle: ({ server }) => {
    const { entries, layers } = server.runtime.toJson();
    return json({ entries, layers });
  },
};

const usage = `usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN
       or send the parameters as form values
use an empty value to remove a previously added override`;

/** Overrides are kept in memory until removed: more at once than a person would send is refused. */
const maxKeyLength = 1024;

export const runtimeModify: AdminEndpoint = {
  path: "/runtime_modify",
  help: "Adds or modifies runtime values as passed in query parameters. To delete a previously added key, use an empty string as the value. Note that deletion only applies to overrides added via this endpoint; values loaded from disk can be modified via override but not deleted. E.g. ?key1=value1&key2=value2...",
  mutates: true,
  handle: ({ server, params }) => {
    if (params.size === 0) return text(usage, 400);
    const changes = new Map<string, string>();
    // The first value of a key counts.
    for (const [key, value] of params.entries) {
      if (key.length > maxKeyLength) return text("key too long\n", 400);
      if (!changes.has(key)) changes.set(key, value);
    }
    try {
      server.modifyRuntime(changes);
    } catch (error) {
      if (error instanceof RuntimeRefusal) return text(error.message, 503);
      throw error;
    }
    return ok;
  },
};
