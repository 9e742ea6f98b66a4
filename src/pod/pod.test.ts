/** The pod as a user has it: the real command, real processes, ports from the system. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isGroupAlive } from "../os/process-info.ts";
import { unpackStatus } from "../supervise/service-directory.ts";
import { findApache } from "./apache.ts";

const launcher = fileURLToPath(new URL("../../bin/outrider", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-pod-"));
chmodSync(scratch, 0o755); // Apache started by root reads as another user
const SERVICES = ["proxy", "web", "proxy/log", "web/log"];
const pods: PodProcess[] = [];
after(() => {
  for (const pod of pods) pod.kill();
  rmSync(scratch, { recursive: true, force: true });
});

let directories = 0;
const ANY_PORTS = ["--ingress", "127.0.0.1:0", "--web-port", "0", "--egress-port", "auto", "--admin", "0", "--concurrency", "1"];

/** A running `outrider pod`. */
class PodProcess {
  readonly directory: string;
  readonly child: ChildProcess;
  output = "";
  readonly #wakers = new Set<() => void>();
  #isOver = false;

  constructor(flags: readonly string[], directory = join(scratch, `run ${++directories}`)) {
    this.directory = directory;
    this.child = spawn("/bin/sh", [launcher, "pod", "--dir", directory, ...flags], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text: string) => {
        this.output += text;
        this.#wake();
      });
    }
    // Not "close": the services of a killed pod still hold its standard error.
    this.child.once("exit", () => {
      this.#isOver = true;
      setImmediate(() => this.#wake());
    });
    pods.push(this);
  }

  /** After a test that failed half-way. */
  kill(): void {
    this.child.kill("SIGKILL");
    if (!existsSync(join(this.directory, "service"))) return;
    for (const name of SERVICES) {
      if (!existsSync(join(this.directory, "service", name, "supervise/status"))) continue;
      const pid = this.pidOf(name);
      try {
        if (pid !== 0) process.kill(-pid, "SIGKILL");
      } catch {
        // ended long ago
      }
    }
  }

  #wake(): void {
    for (const waker of this.#wakers) waker();
  }

  /** The first match in what was printed after `from`. */
  async printed(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.output.slice(from));
      if (found !== null) return found;
      if (this.#isOver) throw new Error(`the pod ended without printing ${pattern}:\n${this.output}`);
      await new Promise<void>((resolve) => {
        const waker = (): void => {
          this.#wakers.delete(waker);
          resolve();
        };
        this.#wakers.add(waker);
      });
    }
  }

  async ready(): Promise<string> {
    return (await this.printed(/^Ready: (http:\S+)\/ answers/m))[1];
  }

  async exitCode(): Promise<number | null> {
    if (!this.#isOver) await once(this.child, "exit");
    await new Promise(setImmediate); // what it printed last
    return this.child.exitCode;
  }

  pidOf(service: string): number {
    return unpackStatus(readFileSync(join(this.directory, "service", service, "supervise/status")))?.pid ?? 0;
  }

  /** Every line of a service's log so far. */
  log(service: string): string {
    const directory = join(this.directory, "logs", service);
    const files = readdirSync(directory).filter((name) => name.startsWith("@") || name === "current");
    return files
      .sort((a, b) => (a === "current" ? 1 : b === "current" ? -1 : a < b ? -1 : 1))
      .map((name) => readFileSync(join(directory, name), "utf8"))
      .join("");
  }

  async logged(service: string, text: string): Promise<void> {
    const watcher = watch(join(this.directory, "logs", service));
    try {
      while (!this.log(service).includes(text)) await once(watcher, "change");
    } finally {
      watcher.close();
    }
  }

  /** Ctrl-C, and nothing may be left. */
  async stop(): Promise<void> {
    const groups = SERVICES.map((name) => this.pidOf(name)).filter((pid) => pid !== 0);
    assert.equal(groups.length, 4);
    this.child.kill("SIGINT");
    assert.equal(await this.exitCode(), 0, this.output);
    for (const group of groups) assert.ok(!isGroupAlive(group), `process group ${group} is still there`);
    assert.deepEqual(leftovers(this.directory), []);
  }
}

/** Fifos, and files that only a running pod needs. */
function leftovers(directory: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    const stats = statSync(join(directory, name));
    if (stats.isFIFO() || name === "lock" || name.includes("supervise")) found.push(name);
  }
  return found;
}

async function get(url: string): Promise<{ status: number; body: string; headers: IncomingMessage["headers"] }> {
  const asked = request(url, { agent: false });
  asked.end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  response.setEncoding("utf8");
  let body = "";
  for await (const text of response) body += text;
  return { status: response.statusCode ?? 0, body, headers: response.headers };
}

/** Serves, survives a kill -9 of the web server and of the proxy, keeps every line, leaves nothing. */
async function survives(web: string): Promise<void> {
  const root = join(scratch, `site of ${web}`);
  mkdirSync(root);
  writeFileSync(join(root, "index.html"), "<p>hello from the folder</p>\n");
  const pod = new PodProcess(["--web", web, "--root", root, "--log-size", "4096", ...ANY_PORTS]);
  const ingress = await pod.ready();
  let count = 0;
  const ask = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      const answer = await get(`${ingress}/?n=${++count}.`);
      assert.equal(answer.status, 200);
      assert.equal(answer.body, "<p>hello from the folder</p>\n");
      assert.match(String(answer.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
    }
    // Written after the answer is out: the kill below is not to come in between.
    for (const service of ["web", "proxy"]) await pod.logged(service, `/?n=${count}.`);
  };
  await ask(20);
  for (const service of ["web", "proxy"]) {
    const from = pod.output.length;
    const pid = pod.pidOf(service);
    process.kill(pid, "SIGKILL");
    await pod.printed(new RegExp(`${service} ended by SIGKILL \\(pid ${pid}\\)`), from);
    // The proxy waits for the web server to come back; nobody waits for the proxy.
    if (service === "web") await ask(1);
    await pod.printed(new RegExp(`${service} is up \\(pid [0-9]+\\)`), from);
    assert.notEqual(pod.pidOf(service), pid);
    await ask(20);
  }
  await pod.stop();
  for (const service of ["web", "proxy"]) {
    const log = pod.log(service);
    for (let n = 1; n <= count; n++) assert.equal(log.split(`/?n=${n}.`).length - 1, 1, `request ${n} in the log of ${service}`);
    assert.ok(
      log.split("\n").every((line) => line === "" || /^@[0-9a-f]{24} /.test(line)),
      "every line is whole",
    );
    assert.ok(
      readdirSync(join(pod.directory, "logs", service)).some((name) => name.startsWith("@")),
      "rotated",
    );
  }
}

test("web server and proxy come back after kill -9, with every log line, and Ctrl-C leaves nothing: embedded", () => survives("embedded"));

test("the same with Apache", { skip: findApache() === undefined ? "Apache (apache2 or httpd) is not installed here" : false }, () => survives("apache"));

test("requests in flight end before the proxy does, and the web server stops after it", async () => {
  const program = join(scratch, "slow.mjs");
  writeFileSync(
    program,
    `import { createServer } from "node:http";
     let slow;
     createServer((request, response) => {
       if (request.url === "/slow") { slow = response; console.log("slow request is here"); }
       else if (request.url === "/finish") { slow.end("at last"); response.end(); }
       else response.end("ok");
     }).listen(process.env.PORT, process.env.HOST);`,
  );
  const pod = new PodProcess(["--web", `${JSON.stringify(process.execPath)} ${JSON.stringify(program)}`, "--drain-time", "60", ...ANY_PORTS]);
  const ingress = await pod.ready();
  const [, web] = await pod.printed(/web +up.* (http:\S+)/);
  const slow = get(`${ingress}/slow`);
  await pod.logged("web", "slow request is here");
  const stopped = pod.stop();
  await pod.printed(/Ctrl-C: stopping/);
  await get(`${web}/finish`);
  assert.equal((await slow).body, "at last");
  await stopped;
  assert.match(pod.output, /proxy stopped[\s\S]*web stopped/);
});

test("a port that is taken is named, with who has it and the flag that changes it", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const pod = new PodProcess([...ANY_PORTS, "--web", "embedded", "--admin", String(port)]);
  assert.equal(await pod.exitCode(), 1);
  server.close();
  assert.match(pod.output, new RegExp(`port ${port} for the proxy's admin page is taken by .* \\(pid ${process.pid}\\)\\..* --admin PORT`));
  assert.ok(!existsSync(join(pod.directory, "lock")));
});

test("a second pod in the same directory is refused; one that follows a killed pod ends what that has left", async () => {
  const first = new PodProcess(["--web", "embedded", ...ANY_PORTS]);
  await first.ready();
  const second = new PodProcess(["--web", "embedded", ...ANY_PORTS], first.directory);
  assert.equal(await second.exitCode(), 1);
  assert.match(second.output, new RegExp(`another pod \\(pid ${first.child.pid}\\) runs in .* --dir DIR`));
  const [web, proxy] = [first.pidOf("web"), first.pidOf("proxy")];
  first.child.kill("SIGKILL");
  await first.exitCode();
  process.kill(proxy, 0);
  const third = new PodProcess(["--web", "embedded", ...ANY_PORTS], first.directory);
  const ingress = await third.ready();
  assert.match(third.output, new RegExp(`stopping proxy \\(pid ${proxy}\\)[\\s\\S]*stopping web \\(pid ${web}\\)`));
  assert.match((await get(`${ingress}/`)).body, /It works, through the proxy/);
  await third.stop();
});

test("a web server that does not stay up is shown with the end of its log", async () => {
  const pod = new PodProcess(["--web", "echo no such luck; exit 3", ...ANY_PORTS]);
  await pod.printed(/web ended with code 3/);
  await pod.printed(/ {4}no such luck/);
  await pod.printed(/web does not stay up/);
  pod.child.kill("SIGTERM");
  assert.equal(await pod.exitCode(), 0);
  assert.deepEqual(leftovers(pod.directory), []);
});
