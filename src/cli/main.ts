/** The command `outrider`: Envoy's command line, or one of our verbs. Imports only what the asked-for work needs. */

import { forgetAllocatorSettings } from "./memory.ts";
import { VERBS } from "./verbs.ts";

forgetAllocatorSettings(process.env);
const [first, ...rest] = process.argv.slice(2);
const tools = first !== undefined && !first.startsWith("-") ? await import("../supervise/tools.ts") : undefined;
if (first !== undefined && Object.hasOwn(VERBS, first)) {
  process.exitCode = await (await VERBS[first].load())(rest);
} else if (first !== undefined && tools?.isToolName(first)) {
  // bin/outrider hands these over to bin/daemontools before there is a Node; here they come when this file is run by itself.
  process.exit(await tools.runTool(first, rest));
} else {
  const { runProxy } = await import("./proxy.ts");
  const code = await runProxy(process.argv.slice(2));
  if (code !== undefined) process.exitCode = code;
}
