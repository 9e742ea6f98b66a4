/** The command `outrider`: Envoy's command line, or one of our verbs. Imports only what the asked-for work needs. */

import { forgetAllocatorSettings } from "./memory.ts";

const verbs: Record<string, () => Promise<(argv: string[]) => Promise<number>>> = {
  pod: async () => (await import("./pod.ts")).runPod,
  reload: async () => (await import("./reload.ts")).reload,
};

forgetAllocatorSettings(process.env);
const [first, ...rest] = process.argv.slice(2);
const tools = first !== undefined && !first.startsWith("-") ? await import("../supervise/tools.ts") : undefined;
if (first !== undefined && Object.hasOwn(verbs, first)) {
  process.exitCode = await (await verbs[first]())(rest);
} else if (first !== undefined && tools?.isToolName(first)) {
  process.exit(await tools.runTool(first, rest));
} else {
  const { runProxy } = await import("./proxy.ts");
  const code = await runProxy(process.argv.slice(2));
  if (code !== undefined) process.exitCode = code;
}
