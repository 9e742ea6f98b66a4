/** The verbs of `outrider`: one row each, from which dispatch, the help text and shell completion are made. The commands of daemontools are verbs too. */
import type { VerbFlag } from "./flags.ts";

export interface Verb {
  /** One line for help and completion. */
  readonly summary: string;
  /** What its words are, for completion. */
  readonly words?: "services" | "shells";
  readonly load: () => Promise<(argv: string[]) => Promise<number>>;
  readonly flags?: () => Promise<readonly VerbFlag[]>;
}

export const VERBS: Readonly<Record<string, Verb>> = {
  pod: {
    summary: "run a web server, the proxy in front of it and their logs, supervised",
    load: async () => (await import("./pod.ts")).runPod,
    flags: async () => (await import("./flags.ts")).flagsOfHelp((await import("../pod/options.ts")).HELP),
  },
  reload: {
    summary: "ask a running proxy to read its configuration again",
    load: async () => (await import("./reload.ts")).reload,
    flags: async () => (await import("./reload.ts")).FLAGS,
  },
  ready: {
    summary: "exit code 0 when a proxy takes traffic: for health checks",
    load: async () => (await import("./drain.ts")).ready,
    flags: async () => (await import("./drain.ts")).READY_FLAGS,
  },
  drain: {
    summary: "take a proxy out of service without losing a request: for preStop hooks",
    load: async () => (await import("./drain.ts")).drain,
    flags: async () => (await import("./drain.ts")).DRAIN_FLAGS,
  },
  k8s: {
    summary: "write Kubernetes manifests for a web server with the proxy as a native sidecar",
    load: async () => (await import("./k8s.ts")).k8s,
    flags: async () => (await import("./k8s.ts")).FLAGS,
  },
  certs: {
    summary: "make an authority and certificates for local use; renew what is about to expire",
    load: async () => (await import("./certs.ts")).certs,
    flags: async () => (await import("./certs.ts")).FLAGS,
  },
  status: {
    summary: "what runs, since when, how it ended last, what it uses, its last log line",
    words: "services",
    load: async () => (await import("./status.ts")).status,
    flags: async () => (await import("./status.ts")).FLAGS,
  },
  logs: {
    summary: "print or follow the logs of services",
    words: "services",
    load: async () => (await import("./logs.ts")).logs,
    flags: async () => (await import("./logs.ts")).FLAGS,
  },
  "new-filter": {
    summary: "begin a filter in TypeScript: its file, a test, and a configuration that runs it",
    load: async () => (await import("./new-filter.ts")).newFilter,
    flags: async () => (await import("./new-filter.ts")).FLAGS,
  },
  completion: {
    summary: "print a completion script for bash, zsh or fish",
    words: "shells",
    load: async () => (await import("./completion.ts")).completion,
    flags: async () => (await import("./completion.ts")).FLAGS,
  },
};
