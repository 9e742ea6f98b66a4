/** `outrider new-filter NAME`: a folder with a filter in TypeScript, its test, and a configuration that runs it. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";

export const FLAGS: readonly VerbFlag[] = [{ name: "dir", value: "DIR", help: "the folder to make (default ./NAME)" }];

const USAGE = "usage: outrider new-filter NAME [--dir DIR]\n";
const root = fileURLToPath(new URL("../../", import.meta.url));

export async function newFilter(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  const fail = (why: string): number => {
    process.stderr.write(`new-filter: ${why}\n${USAGE}`);
    return 1;
  };
  if (parsed.kind === "error") return fail(parsed.text);
  const { given, words } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(`${USAGE}\nMakes a folder with an HTTP filter in TypeScript, its test, and a configuration that runs it.\n\n${flagsHelp(FLAGS)}`);
    return 0;
  }
  const [name, ...more] = words;
  if (name === undefined || more.length > 0) return fail(name === undefined ? "a name is missing" : `takes one name, not '${words.join(" ")}'`);
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(name)) return fail(`'${name}': a name is made of lower case letters, digits and hyphens, and begins with a letter`);
  const folder = resolve(String(given["dir"] ?? name));
  if (existsSync(folder)) return fail(`${folder} exists already: give another name, or --dir`);
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of filesOf(name)) writeFileSync(join(folder, file), text);
  const shown = relative(".", folder) || ".";
  process.stdout.write(`${shown}/filter.ts        the filter
${shown}/filter.test.ts   its test:   cd ${shown} && npm install && npm test
${shown}/envoy.yaml       runs it:    outrider -c ${shown}/envoy.yaml --watch
                                  curl -i http://127.0.0.1:10000/
`);
  return 0;
}

/** As the package is installed: from a checkout its sources are used. */
function dependency(): { readonly outrider: string; readonly test: string } {
  const isCheckout = existsSync(join(root, "src", "api.ts"));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  return isCheckout
    ? { outrider: `file:${root.replace(/\/$/, "")}`, test: "node --conditions=outrider-source --test" }
    : { outrider: `^${version}`, test: "node --test" };
}

function filesOf(name: string): [file: string, text: string][] {
  const { outrider, test } = dependency();
  const manifest = { name, private: true, type: "module", scripts: { test }, devDependencies: { outrider } };
  return [
    ["package.json", `${JSON.stringify(manifest, undefined, 2)}\n`],
    [
      "filter.ts",
      `import { type DecoderFilterCallbacks, defineHttpFilter, type RequestHeaders, type ResponseHeaders } from "outrider/filter";

interface Settings {
  readonly header: string;
  readonly value: string;
}

export default defineHttpFilter({
  /** Once a configuration: what stands under \`config\`. An Error refuses the configuration with its message. */
  configure(config: { header?: string; value?: string }): Settings {
    const { header = "x-${name}", value = "hello" } = config;
    if (!/^[a-z0-9-]+$/.test(header)) throw new Error(\`header "\${header}" is no name of a header\`);
    return { header, value };
  },

  /** Once a request. */
  create({ header, value }, context) {
    const requests = context.counter("requests");
    let callbacks: DecoderFilterCallbacks;
    return {
      setDecoderCallbacks(given: DecoderFilterCallbacks) {
        callbacks = given;
      },
      decodeHeaders(headers: RequestHeaders) {
        requests.inc();
        if (headers.get("x-teapot") !== undefined) {
          callbacks.sendLocalReply({ status: 418, body: "I'm a teapot\\n", details: "${name}_teapot" });
          return "stop";
        }
        headers.set(header, value);
        return "continue";
      },
      encodeHeaders(headers: ResponseHeaders) {
        headers.set(header, value);
      },
    };
  },
});
`,
    ],
    [
      "filter.test.ts",
      `import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { start } from "outrider";

// The configuration beside this file, on a port that is free.
const yaml = readFileSync("envoy.yaml", "utf8").replace("port_value: 10000", "port_value: 0");
const proxy = await start({ config: yaml });
after(() => proxy.stop());
const url = \`http://\${proxy.address()}/\`;

test("responses have the header", async () => {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("x-${name}"), "hello");
});

test("a request can be answered by the filter", async () => {
  const response = await fetch(url, { headers: { "x-teapot": "1" } });
  assert.equal(response.status, 418);
});
`,
    ],
    [
      "envoy.yaml",
      `# One listener whose requests pass the filter, and get an answer of the proxy's own: put your cluster there.
static_resources:
  listeners:
  - name: main
    address: { socket_address: { address: 127.0.0.1, port_value: 10000 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                direct_response: { status: 200, body: { inline_string: "through the filter\\n" } }
          http_filters:
          - name: ${name}
            typed_config:
              "@type": type.googleapis.com/outrider.extensions.filters.http.module.v1.Module
              path: filter.ts # relative to this file
              config: { header: x-${name}, value: hello }
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
`,
    ],
  ];
}
