/** Apache as the pod's web server: found, asked what it is made of, given a configuration of its own. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { findAccount } from "../supervise/accounts.ts";
import { type Endpoint, formatEndpoint } from "./options.ts";

export interface Apache {
  readonly program: string;
  /** Like "Apache/2.4.62". */
  readonly version: string;
  /** Folder of loadable modules; undefined: everything is compiled in. */
  readonly modules: string | undefined;
  readonly compiledIn: ReadonlySet<string>;
}

const PROGRAMS = ["apache2", "httpd"];
const FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/usr/local/apache2/bin", "/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/sbin"];
const MODULES = [
  "/usr/lib/apache2/modules",
  "/usr/lib64/httpd/modules",
  "/usr/lib/httpd/modules",
  "/usr/local/apache2/modules",
  "/opt/homebrew/lib/httpd/modules",
  "/usr/local/lib/httpd/modules",
  "/usr/libexec/apache2",
];
/** Kinds of process model, best first; one is needed. */
const PROCESS_MODELS = ["mpm_event", "mpm_worker", "mpm_prefork"];
const NEEDED = ["authz_core", "unixd", "log_config", "dir", "mime"];
const USEFUL = ["autoindex", "reqtimeout"];
/** Who Apache becomes when root starts it. */
const ACCOUNTS = ["www-data", "apache", "http", "_www", "daemon", "nobody"];

function run(program: string, flag: string): string | undefined {
  const result = spawnSync(program, [flag], { encoding: "utf8", timeout: 5000, stdio: ["ignore", "pipe", "ignore"] });
  return result.error === undefined && result.status === 0 ? result.stdout : undefined;
}

/** Undefined when there is none, or none that has what serving a folder takes. */
export function findApache(): Apache | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(":").filter((folder) => folder.startsWith("/")), ...FOLDERS];
  for (const folder of folders) {
    for (const name of PROGRAMS) {
      const program = join(folder, name);
      if (!existsSync(program)) continue;
      const version = /Apache\/[0-9.]+/.exec(run(program, "-v") ?? "")?.[0];
      const built = run(program, "-l");
      if (version === undefined || built === undefined) continue;
      const compiledIn = new Set([...built.matchAll(/^ *(?:mod_)?([a-z0-9_]+)\.c$/gm)].map((found) => found[1].replace(/^(event|worker|prefork)$/, "mpm_$1")));
      const modules = [...MODULES, join(dirname(dirname(program)), "modules")].find((path) => existsSync(path));
      const apache: Apache = { program, version, modules, compiledIn };
      if ([...NEEDED].every((module) => has(apache, module)) && PROCESS_MODELS.some((module) => has(apache, module))) return apache;
    }
  }
  return undefined;
}

function has(apache: Apache, module: string): boolean {
  return apache.compiledIn.has(module) || (apache.modules !== undefined && existsSync(join(apache.modules, `mod_${module}.so`)));
}

/** The account that Apache serves as; undefined when it is not started by root. Throws nothing: without an account it cannot be used. */
export function apacheAccount(): { name: string; uid: number; gid: number } | undefined {
  for (const name of ACCOUNTS) {
    const account = findAccount(name);
    if (account !== undefined) return { name, ...account };
  }
  return undefined;
}

/** Whether an account can get into a folder and read it: by the bits of every folder on the way, for the owner, the group and all others. */
export function canRead(account: { uid: number; gid: number }, folder: string): boolean {
  const allows = (path: string, bits: number): boolean => {
    try {
      const stats = statSync(path);
      const shift = stats.uid === account.uid ? 6 : stats.gid === account.gid ? 3 : 0;
      return ((stats.mode >> shift) & bits) === bits;
    } catch {
      return false;
    }
  };
  if (!allows(folder, 0o5)) return false;
  for (let path = dirname(folder); ; path = dirname(path)) {
    if (!allows(path, 0o1)) return false;
    if (path === dirname(path)) return true;
  }
}

const PREFORK = `ServerLimit 64
MaxRequestWorkers 64
MinSpareServers 1
MaxSpareServers 4`;
const THREADED = `ServerLimit 8
ThreadsPerChild 25
MaxRequestWorkers 200
MinSpareThreads 8
MaxSpareThreads 64`;

export interface ApacheSettings {
  readonly listen: Endpoint;
  readonly root: string;
  /** Where Apache keeps its pid and scratch files. */
  readonly directory: string;
  readonly isRoot: boolean;
}

const quote = (text: string): string => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/** httpd.conf: one folder, one port, logs to where supervise has them collected. */
export function apacheConfig(apache: Apache, settings: ApacheSettings): string {
  const model = PROCESS_MODELS.find((module) => has(apache, module)) ?? PROCESS_MODELS[0];
  const modules = [model, ...NEEDED, ...USEFUL]
    .filter((module) => !apache.compiledIn.has(module) && has(apache, module))
    .map((module) => `LoadModule ${module}_module ${quote(join(apache.modules ?? "", `mod_${module}.so`))}`);
  const account = settings.isRoot ? apacheAccount() : undefined;
  const types = ["/etc/mime.types", "/etc/apache2/mime.types", "/etc/httpd/conf/mime.types", "/usr/local/apache2/conf/mime.types"].find((path) =>
    existsSync(path),
  );
  return `# The pod's web server: ${apache.version} serving the files of one folder. Written anew whenever the pod starts.
ServerRoot ${quote(settings.directory)}
ServerName localhost
Listen ${formatEndpoint(settings.listen)}
${modules.join("\n")}
${account === undefined ? "" : `User #${account.uid}\nGroup #${account.gid}\n`}PidFile ${quote(join(settings.directory, "httpd.pid"))}
DefaultRuntimeDir ${quote(settings.directory)}
ServerTokens Prod
# A sidecar has one client that keeps its connections: few processes, and no hurry to close.
KeepAlive On
KeepAliveTimeout 75
MaxKeepAliveRequests 0
StartServers 1
${model === "mpm_prefork" ? PREFORK : THREADED}
TypesConfig ${quote(types ?? "/dev/null")}
AddType text/html .html .htm
AddType text/javascript .js .mjs
AddType application/wasm .wasm
# To the pipe that supervise has given: multilog writes the files.
ErrorLog /dev/stderr
LogFormat "%h \\"%r\\" %>s %b %D us \\"%{User-Agent}i\\" %{X-Request-Id}i" pod
CustomLog /dev/stdout pod
<Directory />
  AllowOverride None
  Require all denied
</Directory>
DocumentRoot ${quote(settings.root)}
<Directory ${quote(settings.root)}>
  Options ${has(apache, "autoindex") ? "Indexes " : ""}FollowSymLinks
  DirectoryIndex index.html
  Require all granted
</Directory>
`;
}
