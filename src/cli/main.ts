/** The command `outrider`: Envoy's command line, or one of our verbs. Imports only what the asked-for work needs. */
import { existsSync } from "node:fs";

const verbs: Record<string, () => Promise<(argv: string[]) => Promise<number>>> = {
  pod: async () => (await import("./pod.ts")).runPod,
  reload: async () => (await import("./reload.ts")).reload,
};

const [first, ...rest] = process.argv.slice(2);
const tool = first !== undefined && /^[a-z0-9]+$/.test(first) ? new URL(`../supervise/tools/${first}.ts`, import.meta.url) : undefined;
if (first !== undefined && Object.hasOwn(verbs, first)) {
  process.exitCode = await (await verbs[first]())(rest);
} else if (first !== undefined && tool !== undefined && existsSync(tool)) {
  process.argv.splice(2, 1);
  const { runTool } = await import("../supervise/main.ts");
  await runTool(first, rest);
} else {
  const { runProxy } = await import("./proxy.ts");
  const code = await runProxy(process.argv.slice(2));
  if (code !== undefined) process.exitCode = code;
}
