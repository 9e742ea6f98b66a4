/** Which services a verb means: those of the directories it was given, else those of the directory where services usually are. */
import { existsSync, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { defaultDirectory } from "../pod/run-directory.ts";
import { type FoundService, findServices } from "../supervise/inspect/find.ts";
import { printable } from "../supervise/inspect/words.ts";
import { isSupervised } from "../supervise/service-directory.ts";

/** What there was to find, and in words what there was not. */
export interface Selection {
  /** For a title. */
  readonly where: string;
  readonly services: readonly FoundService[];
  /** Lines of complaint; safe for a terminal. */
  readonly problems: readonly string[];
}

interface Place {
  readonly label: string;
  readonly path: string | undefined;
  readonly absent?: string;
}

function places(env: NodeJS.ProcessEnv): Place[] {
  const pod = join(defaultDirectory(), "service");
  const { SVDIR } = env;
  return [
    { label: `${pod} (the pod's)`, path: isPodRunning(pod) ? pod : undefined, absent: "no pod runs there" },
    { label: SVDIR ? `$SVDIR, ${SVDIR}` : "$SVDIR", path: SVDIR || undefined, absent: "not set" },
    { label: "/service", path: "/service" },
    { label: "/etc/service", path: "/etc/service" },
  ];
}

/** One of its services has a supervise. */
function isPodRunning(path: string): boolean {
  const found = findServices(path);
  return (
    found.kind === "services" &&
    found.services.some((service) => {
      try {
        return isSupervised(service.path);
      } catch {
        return true; // somebody else's, who may tell more
      }
    })
  );
}

/** The services of the running pod, else of $SVDIR, else of /service, else of /etc/service: the first of them that is there. */
export function defaultServices(env: NodeJS.ProcessEnv = process.env): Selection {
  const looked: string[] = [];
  for (const place of places(env)) {
    if (place.path === undefined) {
      looked.push(`  ${place.label}: ${place.absent}`);
      continue;
    }
    const found = findServices(place.path);
    if (found.kind === "services") return { where: place.path, services: found.services, problems: [] };
    looked.push(`  ${place.label}: ${found.why}`);
    if (place.label.startsWith("$SVDIR")) break; // asked for; another directory's services would mislead
  }
  const problems = [
    "no services found. Looked at",
    ...looked,
    "Name a directory (of services, or of one), set SVDIR to it, or start something: outrider pod, or outrider svscan DIR",
  ].map(printable);
  return { where: "", services: [], problems };
}

/** The services of each directory, or the default ones. Names that are there twice are told apart by their paths. */
export function selectServices(directories: readonly string[], env: NodeJS.ProcessEnv = process.env): Selection {
  if (directories.length === 0) return defaultServices(env);
  const services: FoundService[] = [];
  const problems: string[] = [];
  let fallback: Selection | undefined;
  for (const directory of directories) {
    const found = findServices(directory);
    if (found.kind === "services") {
      services.push(...found.services);
      continue;
    }
    // A plain name is also one of the usual directory's services.
    fallback ??= defaultServices(env);
    const named = directory.includes("/") || existsSync(directory) ? undefined : fallback.services.find((one) => one.name === directory);
    if (named !== undefined) services.push(named);
    else problems.push(printable(`${directory}: ${found.why}`));
  }
  const names = services.map((one) => one.name);
  const isTwice = (one: FoundService): boolean => names.indexOf(one.name) !== names.lastIndexOf(one.name);
  return {
    where: directories.join(" "),
    services: services.map((one) => (isTwice(one) ? { ...one, name: one.path } : one)),
    problems,
  };
}

/** One service by the name that svscan gives it, or by a path to its directory. Undefined: no such service. */
export function findService(nameOrPath: string, env: NodeJS.ProcessEnv = process.env): FoundService | undefined {
  if (!nameOrPath.includes("/") && nameOrPath !== "." && nameOrPath !== "..") {
    const known = defaultServices(env).services.find((one) => one.name === nameOrPath);
    if (known !== undefined) return known;
  }
  try {
    if (!statSync(nameOrPath).isDirectory()) return undefined;
  } catch {
    return undefined;
  }
  return { name: basename(resolve(nameOrPath)), path: nameOrPath };
}
