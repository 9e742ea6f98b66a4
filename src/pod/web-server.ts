/** Which web server the pod runs, and how. */
import { mkdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Apache, apacheAccount, apacheConfig, canRead, findApache } from "./apache.ts";
import type { Endpoint, PodOptions } from "./options.ts";
import { PodError } from "./ports.ts";
import { embeddedWebConfig } from "./proxy-config.ts";
import type { RunDirectory } from "./run-directory.ts";
import { BIN, shellQuote, writeWhole } from "./service-files.ts";

export interface WebServer {
  /** For the table: "Apache/2.4.62", "embedded", the command. */
  readonly label: string;
  /** Folder that is served; undefined for a command of the user's. */
  readonly root: string | undefined;
  /** Why it is not the one that would be taken otherwise. */
  readonly note: string | undefined;
  /** Lines of its run script; writes its configuration. */
  prepare(listen: Endpoint): string[];
}

/** Decides, or throws a PodError. `www` is served when the options name no folder. */
export function chooseWebServer(options: PodOptions, directory: RunDirectory): WebServer {
  const { web } = options;
  if (web !== "auto" && web !== "apache" && web !== "embedded") {
    if (options.root !== undefined) throw new PodError("--root is for Apache and the embedded server: the command of --web knows its own folder");
    return commandServer(web);
  }
  const root = options.root === undefined ? join(directory.path, "www") : resolve(options.root);
  if (options.root !== undefined && statSync(root, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new PodError(`--root ${options.root}: no such folder`);
  if (options.root === undefined) mkdirSync(root, { recursive: true, mode: 0o755 });
  if (web === "embedded") return embeddedServer(directory, root, undefined);
  const apache = findApache();
  const trouble = apache === undefined ? "Apache (apache2 or httpd, with its usual modules) is not installed" : accessTrouble(root);
  if (apache !== undefined && trouble === undefined) return apacheServer(apache, directory, root);
  if (web === "apache") throw new PodError(`--web apache: ${trouble}. Use --web embedded, which needs nothing`);
  return embeddedServer(directory, root, apache === undefined ? undefined : trouble);
}

const isRoot = (): boolean => process.getuid?.() === 0;

/** Started by root, Apache serves as another user, who must be able to read the folder. */
function accessTrouble(root: string): string | undefined {
  if (!isRoot()) return undefined;
  const account = apacheAccount();
  if (account === undefined) return "Apache started by root needs an account to serve as (www-data, apache, nobody), and there is none";
  return canRead(account, root) ? undefined : `Apache serves as ${account.name}, who may not read ${root}`;
}

function apacheServer(apache: Apache, directory: RunDirectory, root: string): WebServer {
  return {
    label: apache.version,
    root,
    note: undefined,
    prepare(listen) {
      const scratch = join(directory.path, "httpd");
      mkdirSync(scratch, { recursive: true, mode: 0o755 });
      writeWhole(join(directory.path, "httpd.conf"), apacheConfig(apache, { listen, root, directory: scratch, isRoot: isRoot() }), 0o644);
      return [
        `# The web server: ${apache.version} serves ${root}`,
        "exec 2>&1",
        `rm -f ${shellQuote(join(scratch, "httpd.pid"))} # left by one that was killed`,
        `exec ${shellQuote(apache.program)} -DFOREGROUND -f ${shellQuote(join(directory.path, "httpd.conf"))}`,
      ];
    },
  };
}

function embeddedServer(directory: RunDirectory, root: string, note: string | undefined): WebServer {
  return {
    label: "embedded",
    root,
    note,
    prepare(listen) {
      const config = join(directory.path, "web.yaml");
      writeWhole(config, embeddedWebConfig(listen, root), 0o644);
      return [
        `# The web server: the embedded one serves ${root}`,
        "exec 2>&1",
        `exec ${shellQuote(join(BIN, "outrider"))} -c ${shellQuote(config)} -l warn --concurrency 1 --disable-hot-restart --file-flush-min-size-kb 0`,
      ];
    },
  };
}

function commandServer(command: string): WebServer {
  return {
    label: command.length <= 40 ? command : `${command.slice(0, 39)}…`,
    root: undefined,
    note: undefined,
    prepare(listen) {
      return [
        "# The web server: a command of the user's, in the folder where the pod was started",
        "exec 2>&1",
        `cd ${shellQuote(process.cwd())} || exit 111`,
        `PORT=${listen.port} HOST=${listen.host}`,
        "export PORT HOST",
        `exec /bin/sh -c ${shellQuote(command)}`,
      ];
    },
  };
}
