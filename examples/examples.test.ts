/** Every configuration of examples/ is valid, and what its README shows after `$ curl` is what comes back. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { start } from "../src/api.ts";

const root = resolve(import.meta.dirname, "..");
const run = promisify(execFile);

for (const file of globSync("examples/*/envoy.yaml", { cwd: root }).sort()) {
  test(`${file} is valid`, async () => {
    const { stdout } = await run(join(root, "bin", "outrider"), ["--mode", "validate", "-c", file], { cwd: root });
    assert.equal(stdout, `configuration '${file}' OK\n`);
  });

  const checks = consoleChecks(readFileSync(join(root, dirname(file), "README.md"), "utf8"));
  if (checks.length === 0) continue;
  test(`${file} answers as its README says`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "outrider-example-"));
    const config = readFileSync(join(root, file), "utf8");
    const ports = await freePorts(config);
    const path = join(folder, "envoy.yaml");
    writeFileSync(
      path,
      config.replace(/port_value: (\d+)/g, (_, port: string) => `port_value: ${ports.get(port)}`),
    );
    const proxy = await start({ configPath: path });
    try {
      for (const { command, expected } of checks) assert.equal(await curl(command, ports), expected, command);
    } finally {
      await proxy.stop();
      rmSync(folder, { recursive: true });
    }
  });
}

test("examples/embedded/app.ts runs", async () => {
  const { stdout } = await run(join(root, "bin", "node"), ["--conditions=outrider-source", "examples/embedded/app.ts"], { cwd: root });
  assert.match(stdout, /^from inside\n\nrequests: 1\n/);
});

interface Check {
  readonly command: string;
  readonly expected: string;
}

/** The ```console blocks: `$ command`, then what it prints. */
function consoleChecks(readme: string): Check[] {
  const checks: Check[] = [];
  for (const [, block] of readme.matchAll(/```console\n(.*?)```/gs))
    for (const part of block.split(/^\$ /m).slice(1)) {
      const end = part.indexOf("\n");
      checks.push({ command: part.slice(0, end), expected: part.slice(end + 1).trimEnd() });
    }
  return checks;
}

/** A free port for each one that a configuration names: no example may depend on what else runs here. */
async function freePorts(config: string): Promise<Map<string, number>> {
  const named = new Set([...config.matchAll(/port_value: (\d+)/g)].map((match) => match[1]));
  const servers = [...named].map(() => createServer());
  const free = await Promise.all(
    servers.map((server) => new Promise<number>((done) => server.listen(0, "127.0.0.1", () => done((server.address() as AddressInfo).port)))),
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return new Map([...named].map((port, index) => [port, port === "0" ? 0 : free[index]]));
}

/** The few options of curl that the READMEs use. */
async function curl(command: string, ports: ReadonlyMap<string, number>): Promise<string> {
  const words = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2]);
  const headers: Record<string, string> = {};
  let codeOnly = false;
  let url = "";
  for (let i = 1; i < words.length; i++) {
    if (words[i] === "-s") continue;
    if (words[i] === "-H") {
      const [name, value] = words[++i].split(": ");
      headers[name] = value;
    } else if (words[i] === "-o" || words[i] === "-w") codeOnly ||= words[++i] === "%{http_code}";
    else url = words[i];
  }
  const [, port, path] = /^http:\/\/127\.0\.0\.1:(\d+)(\/.*)$/.exec(url) ?? assert.fail(`not a URL of an example: ${command}`);
  return new Promise((done, failed) => {
    const sent = request({ host: "127.0.0.1", port: ports.get(port), path, headers, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (body += chunk));
      response.on("end", () => done(codeOnly ? String(response.statusCode) : body.trimEnd()));
    });
    sent.on("error", failed);
    sent.end();
  });
}
