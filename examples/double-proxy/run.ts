/**
 * The whole example with one command: bin/node examples/double-proxy/run.ts
 *
 * Certificates, a database, the proxy beside it, an application, the proxy beside that. Ends with Ctrl-C; with --check it asks for two pages on free
 * ports and ends by itself.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { database } from "./database.ts";
import { shop } from "./shop.ts";

const outrider = resolve(import.meta.dirname, "..", "..", "bin", "outrider");
const isCheck = process.argv.includes("--check");
const work = mkdtempSync(join(tmpdir(), "double-proxy-"));
const children: ChildProcess[] = [];
const servers: Server[] = [];

/** As the configurations have them; with --check any that are free. */
const ports = new Map([6379, 8000, 9901, 9902, 10000, 10001, 10443].map((port) => [port, port]));
if (isCheck) {
  const holders = await Promise.all([...ports.keys()].map(() => listen(createServer(), 0)));
  for (const [index, port] of [...ports.keys()].entries()) ports.set(port, (holders[index].address() as AddressInfo).port);
  await Promise.all(holders.map((holder) => new Promise((done) => holder.close(done))));
}
const portOf = (port: number): number => ports.get(port) ?? port;

async function listen(server: Server, port: number): Promise<Server> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function startProxy(name: string): void {
  const config = readFileSync(join(import.meta.dirname, `${name}.yaml`), "utf8");
  writeFileSync(
    join(work, `${name}.yaml`),
    config.replace(/port_value: (\d+)/g, (_, port: string) => `port_value: ${portOf(Number(port))}`),
  );
  // Where it runs is where it looks for certs/.
  children.push(spawn(outrider, ["-c", `${name}.yaml`, "-l", "warning", "--concurrency", "1", "--disable-hot-restart"], { cwd: work, stdio: "inherit" }));
}

async function stop(): Promise<void> {
  for (const child of children) if (child.exitCode === null && child.kill()) await once(child, "exit");
  for (const server of servers) server.close();
  rmSync(work, { recursive: true, force: true });
}

async function ask(path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${portOf(10000)}${path}`, { headers: { connection: "close" } })).text();
}

async function untilReady(adminPort: number): Promise<void> {
  for (const until = performance.now() + 20_000; performance.now() < until; await sleep(50)) {
    const answer = await fetch(`http://127.0.0.1:${adminPort}/ready`).catch(() => undefined);
    if (answer?.status === 200) return;
  }
  throw new Error(`the proxy with its admin interface at ${adminPort} did not become ready`);
}

try {
  mkdirSync(join(work, "certs"));
  const names = ["--server", "back=back.shop.internal", "--client", "front=spiffe://shop/front"];
  process.stdout.write(execFileSync(outrider, ["certs", "certs", "--sds", ...names], { cwd: work, encoding: "utf8" }));
  servers.push(await listen(database(), portOf(6379)), await listen(shop(portOf(10001)), portOf(8000)));
  startProxy("back");
  startProxy("front");
  await Promise.all([untilReady(portOf(9901)), untilReady(portOf(9902))]);
  if (isCheck) process.stdout.write((await ask("/")) + (await ask("/")));
  else {
    process.stdout.write(`\ncurl http://127.0.0.1:${portOf(10000)}/     (certificates are in ${work}/certs; Ctrl-C ends everything)\n`);
    await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM"), ...children.map((child) => once(child, "exit"))]);
  }
} finally {
  await stop();
}
