/** The one table of commands. A tool is a function from its arguments to its exit code; most end or become another program before they return. */

export type Tool = (args: string[]) => number | Promise<number>;

interface ToolModule {
  readonly run: Tool;
}

export const TOOLS = {
  svscan: () => import("./tools/svscan.ts"),
  svscanboot: () => import("./tools/svscanboot.ts"),
  supervise: () => import("./tools/supervise.ts"),
  svc: () => import("./tools/svc.ts"),
  svok: () => import("./tools/svok.ts"),
  svstat: () => import("./tools/svstat.ts"),
  multilog: () => import("./tools/multilog.ts"),
  fghack: () => import("./tools/fghack.ts"),
  pgrphack: () => import("./tools/pgrphack.ts"),
  readproctitle: () => import("./tools/readproctitle.ts"),
  setuidgid: () => import("./tools/setuidgid.ts"),
  envuidgid: () => import("./tools/envuidgid.ts"),
  envdir: () => import("./tools/envdir.ts"),
  softlimit: () => import("./tools/softlimit.ts"),
  setlock: () => import("./tools/setlock.ts"),
  tai64n: () => import("./tools/tai64n.ts"),
  tai64nlocal: () => import("./tools/tai64nlocal.ts"),
} satisfies Record<string, () => Promise<ToolModule>>;

export type ToolName = keyof typeof TOOLS;

export function isToolName(name: string): name is ToolName {
  return Object.hasOwn(TOOLS, name);
}

/** Runs one command to its end. */
export async function runTool(name: ToolName, args: string[]): Promise<number> {
  const module: ToolModule = await TOOLS[name]();
  return module.run(args);
}
