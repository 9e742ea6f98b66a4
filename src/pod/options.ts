/** The command line of `outrider pod`. */

export interface Endpoint {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** The service that the pod's program calls through the egress listener. */
export interface Remote extends Endpoint {
  readonly tls: boolean;
}

export interface PodOptions {
  readonly directory: string | undefined;
  /** `auto`, `apache`, `embedded`, or a shell command. */
  readonly web: string;
  readonly root: string | undefined;
  readonly webPort: Endpoint;
  readonly ingress: Endpoint;
  readonly egressPort: Endpoint;
  readonly admin: Endpoint;
  readonly egress: Remote | undefined;
  /** Worker threads of the proxy; undefined: one for each processor. */
  readonly concurrency: number | undefined;
  /** Of one log file. */
  readonly logBytes: number;
  readonly logFiles: number;
  /** How long requests in flight may take when the pod stops, seconds. */
  readonly drainSeconds: number;
}

export type ParsedPodOptions =
  | { readonly kind: "options"; readonly options: PodOptions }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "error"; readonly text: string };

export const HELP = `USAGE: outrider pod [FLAGS]

Runs a web server, the proxy in front of it and their logs, supervised, until Ctrl-C.

  --web auto|apache|embedded|COMMAND  the web server: Apache where it is installed, the embedded one, or a shell command that listens on
                                      127.0.0.1:$PORT (default auto)
  --root DIR                          the folder that Apache or the embedded server serves (default: a page of our own)
  --egress HOST:PORT|https://HOST     the remote service behind the egress port (default: none, requests are answered with 503)

Where each thing listens, PORT or ADDRESS:PORT; 0 or auto takes a free port:
  --ingress PORT                      the proxy, for the world outside (default 0.0.0.0:10000)
  --web-port PORT                     the web server behind it (default 127.0.0.1:8000)
  --egress-port PORT                  the proxy, for the pod's own calls (default 127.0.0.1:9001)
  --admin PORT                        the proxy's admin page (default 127.0.0.1:9901)

  --dir DIR                           run directory: configuration, service directories, logs (default $XDG_RUNTIME_DIR/outrider/pod, else
                                      ~/.local/state/outrider/pod; for root /var/lib/outrider/pod)
  --concurrency N                     worker threads of the proxy (default: the number of processors)
  --log-size BYTES                    size of one log file, 4096..16777215 (default 1000000)
  --log-files N                       how many of them are kept, at least 2 (default 10)
  --drain-time SECONDS                how long requests in flight may take when the pod stops (default 5)
  -h, --help                          this text
`;

/** PORT, ADDRESS:PORT, [IPV6]:PORT, 0 or auto. */
export function parseEndpoint(text: string, host: string): Endpoint | undefined {
  const found = /^(?:(\[[0-9a-fA-F:.]+\]|[0-9.]+):)?([0-9]{1,5}|auto)$/.exec(text);
  if (found === null) return undefined;
  const port = found[2] === "auto" ? 0 : Number(found[2]);
  return port > 65535 ? undefined : { host: found[1]?.replace(/^\[|\]$/g, "") ?? host, port };
}

/** HOST:PORT, http://HOST[:PORT] or https://HOST[:PORT]; TLS for https and for port 443. */
export function parseRemote(text: string): Remote | undefined {
  const found = /^(?:(https?):\/\/)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?\/?$/.exec(text);
  if (found === null || (found[1] === undefined && found[3] === undefined)) return undefined;
  const port = found[3] === undefined ? (found[1] === "https" ? 443 : 80) : Number(found[3]);
  if (port < 1 || port > 65535) return undefined;
  return { host: found[2].replace(/^\[|\]$/g, ""), port, tls: found[1] === undefined ? port === 443 : found[1] === "https" };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function defaults(): Mutable<PodOptions> {
  return {
    directory: undefined,
    web: "auto",
    root: undefined,
    webPort: { host: "127.0.0.1", port: 8000 },
    ingress: { host: "0.0.0.0", port: 10_000 },
    egressPort: { host: "127.0.0.1", port: 9001 },
    admin: { host: "127.0.0.1", port: 9901 },
    egress: undefined,
    concurrency: undefined,
    logBytes: 1_000_000,
    logFiles: 10,
    drainSeconds: 5,
  };
}

const PORT_FORM = "a port, ADDRESS:PORT, 0 or auto";

function wholeNumber(text: string, min: number, max: number): number | undefined {
  return /^[0-9]{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined;
}

/** One row a flag: takes the value, or says what it should be. */
const FLAGS: Readonly<Record<string, (options: Mutable<PodOptions>, value: string) => string | undefined>> = {
  "--dir": (o, value) => void (o.directory = value),
  "--web": (o, value) => (value.trim() === "" ? "auto, apache, embedded or a command" : void (o.web = value)),
  "--root": (o, value) => void (o.root = value),
  "--egress": (o, value) => ((o.egress = parseRemote(value)) === undefined ? "HOST:PORT, http://HOST or https://HOST" : undefined),
  "--concurrency": (o, value) => ((o.concurrency = wholeNumber(value, 1, 1024)) === undefined ? "a number from 1 on" : undefined),
  "--log-size": (o, value) => required(wholeNumber(value, 4096, 16_777_215), (n) => (o.logBytes = n), "4096 to 16777215 bytes"),
  "--log-files": (o, value) => required(wholeNumber(value, 2, 100_000), (n) => (o.logFiles = n), "a number from 2 on"),
  "--drain-time": (o, value) => required(wholeNumber(value, 0, 86_400), (n) => (o.drainSeconds = n), "seconds from 0 on"),
  "--ingress": (o, value) => required(parseEndpoint(value, o.ingress.host), (at) => (o.ingress = at), PORT_FORM),
  "--web-port": (o, value) => required(parseEndpoint(value, o.webPort.host), (at) => (o.webPort = at), PORT_FORM),
  "--egress-port": (o, value) => required(parseEndpoint(value, o.egressPort.host), (at) => (o.egressPort = at), PORT_FORM),
  "--admin": (o, value) => required(parseEndpoint(value, o.admin.host), (at) => (o.admin = at), PORT_FORM),
};

function required<T>(value: T | undefined, set: (value: T) => void, form: string): string | undefined {
  if (value === undefined) return form;
  set(value);
  return undefined;
}

/** Flags and values are words of their own, or `--flag=value`. */
export function parsePodOptions(argv: readonly string[]): ParsedPodOptions {
  const options = defaults();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i];
    if (word === "-h" || word === "--help") return { kind: "help", text: HELP };
    const equals = word.startsWith("--") ? word.indexOf("=") : -1;
    const name = equals < 0 ? word : word.slice(0, equals);
    if (!Object.hasOwn(FLAGS, name)) return { kind: "error", text: `no such flag: ${word} (all flags: outrider pod --help)` };
    const value = equals < 0 ? argv[++i] : word.slice(equals + 1);
    if (value === undefined) return { kind: "error", text: `${name} needs a value` };
    const form = FLAGS[name](options, value);
    if (form !== undefined) return { kind: "error", text: `${name} ${value}: must be ${form}` };
  }
  return { kind: "options", options };
}

/** As in a URL. */
export function formatEndpoint(endpoint: Endpoint): string {
  return `${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`;
}
