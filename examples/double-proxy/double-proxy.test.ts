/** Who is let in, who is not, and how it is told: Outrider, and real Envoy with the same files where there is one. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { type Authority, makeAuthority, makeCertificate, newKey } from "../../src/pki/certificate.ts";
import { certificateSecret, maintainFolder } from "../../src/pki/folder.ts";
import { parseName, type SubjectName } from "../../src/pki/names.ts";
import { database } from "./database.ts";

const outrider = resolve(import.meta.dirname, "..", "..", "bin", "outrider");
const scratch = mkdtempSync(join(tmpdir(), "outrider-double-proxy-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const limit = { timeout: 60_000 };
const DAY = 86_400_000;

test("the whole example runs with one command", limit, async () => {
  const { stdout } = await promisify(execFile)(resolve(outrider, "..", "node"), [join(import.meta.dirname, "run.ts"), "--check"]);
  assert.match(stdout, /\nvisit 1\nvisit 2\n/);
  assert.match(stdout, /^back peer=spiffe:\/\/shop\/front flags=- why=-$/m);
});

async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 20_000; !(await is()); await sleep(15)) assert.ok(performance.now() < end, `waited too long for ${what}`);
}

class ProxyProcess {
  readonly #folder: string;
  readonly #name: string;
  readonly #process: ChildProcess;
  #said = "";

  constructor(program: string, folder: string, name: string, ports: Readonly<Record<string, number>>) {
    this.#folder = folder;
    this.#name = name;
    const config = readFileSync(join(import.meta.dirname, `${name}.yaml`), "utf8")
      .replace(/port_value: (\d+)/g, (_, port: string) => `port_value: ${ports[port] ?? 0}`)
      .replaceAll("envoy.access_loggers.stdout", "envoy.access_loggers.file")
      .replaceAll(
        "access_loggers.stream.v3.StdoutAccessLog",
        `access_loggers.file.v3.FileAccessLog\n${" ".repeat(name === "back" ? 12 : 22)}path: ${name}.log`,
      );
    writeFileSync(join(folder, `${name}.yaml`), config);
    const flags = ["-c", `${name}.yaml`, "-l", "error", "--concurrency", "1", "--file-flush-interval-msec", "20", "--admin-address-path", `${name}.admin`];
    this.#process = spawn(program, [...flags, "--disable-hot-restart"], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
    this.#process.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#said += text));
  }

  async get(path: string): Promise<string> {
    return (await fetch(`http://${readFileSync(join(this.#folder, `${this.#name}.admin`), "utf8").trim()}${path}`)).text();
  }

  async ready(): Promise<void> {
    await until(`${this.#name} to be ready`, async () => {
      assert.equal(this.#process.exitCode, null, this.#said);
      return this.get("/ready").then(
        (text) => text.trim() === "LIVE",
        () => false,
      );
    });
  }

  async port(listener: string): Promise<number> {
    const found = JSON.parse(await this.get("/listeners?format=json")).listener_statuses.find((one: { name: string }) => one.name === listener);
    return found.local_address.socket_address.port_value;
  }

  /** Counters and gauges whose names end so, added up. */
  async stat(suffix: string): Promise<number> {
    let sum = 0;
    for (const [, name, value] of (await this.get("/stats")).matchAll(/^(\S+): (\d+)$/gm)) if (name.endsWith(suffix)) sum += Number(value);
    return sum;
  }

  log(): string {
    return readFileSync(join(this.#folder, `${this.#name}.log`), "utf8");
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.kill()) await once(this.#process, "exit");
  }
}

class Pair {
  readonly folder: string;
  readonly #program: string;
  readonly #database: Server = database();
  back!: ProxyProcess;
  front!: ProxyProcess;
  databasePort = 0;
  mtlsPort = 0;

  constructor(program: string) {
    this.#program = program;
    this.folder = mkdtempSync(join(scratch, "pair-"));
  }

  async start(): Promise<void> {
    this.renew();
    this.#database.listen(0, "127.0.0.1");
    await once(this.#database, "listening");
    this.back = new ProxyProcess(this.#program, this.folder, "back", { 6379: (this.#database.address() as AddressInfo).port });
    await this.back.ready();
    this.mtlsPort = await this.back.port("mtls");
    this.front = new ProxyProcess(this.#program, this.folder, "front", { 10443: this.mtlsPort, 8000: 1 });
    await this.front.ready();
    this.databasePort = await this.front.port("database");
  }

  async stop(): Promise<void> {
    await this.front?.stop();
    await this.back?.stop();
    this.#database.close();
  }

  renew(more: { readonly renewAll?: boolean; readonly newAuthority?: boolean } = {}): void {
    maintainFolder({
      folder: join(this.folder, "certs"),
      certificates: [
        { name: "back", names: backNames, usages: ["server"] },
        { name: "front", names: frontNames, usages: ["client"] },
      ],
      keyKind: "ec",
      days: 30,
      authorityDays: 300,
      renewBeforeDays: 5,
      renewAll: false,
      newAuthority: false,
      sds: true,
      now: Date.now(),
      ...more,
    });
  }

  authority(): Authority {
    const { entries } = maintainFolder({ ...this.#nothing(), folder: join(this.folder, "certs") });
    return { certificate: entries[0].certificate, key: createKey(join(this.folder, "certs", "ca.key")) };
  }

  #nothing() {
    const flags = { renewAll: false, newAuthority: false, sds: false } as const;
    return { certificates: [], keyKind: "ec" as const, days: 1, authorityDays: 300, renewBeforeDays: 1, now: Date.now(), ...flags };
  }

  /** Gives one of the two another secret; resolves when it is in force. */
  async show(side: "front" | "back", text: string): Promise<void> {
    const proxy = this[side];
    const updates = (): Promise<number> => proxy.stat("ssl_socket_factory.ssl_context_update_by_sds");
    const before = await updates();
    const path = join(this.folder, "certs", `${side}.sds.yaml`);
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
    await until(`${side}'s new secret`, async () => (await updates()) > before);
  }

  /**
   * Asks until a PING is answered so. The statistic of a new secret is the main thread's: a worker may still make a connection or two
   * with the one before.
   */
  async answers(answer: string, what: string): Promise<void> {
    await until(what, async () => (await this.ping()) === answer);
  }

  /** What the application gets for a PING; "" where the connection ends without an answer. */
  ping(): Promise<string> {
    return new Promise((done) => {
      let text = "";
      const socket = connect(this.databasePort, "127.0.0.1", () => socket.write("PING\r\n"));
      socket.setEncoding("utf8");
      socket.on("data", (chunk: string) => {
        text += chunk;
        socket.end();
      });
      socket.on("error", () => {});
      socket.on("close", () => done(text));
    });
  }
}

const { createPrivateKey } = await import("node:crypto");
const createKey = (path: string) => createPrivateKey(readFileSync(path));
const names = (text: string): SubjectName[] => [parseName(text) ?? assert.fail(text)];
const backNames = names("back.shop.internal");
const frontNames = names("spiffe://shop/front");

/** A certificate for one side, of the authority or a stranger, as a secret. */
function secret(side: "front" | "back", authority: Authority, wrong: "" | "authority" | "expired" | "name"): string {
  const key = newKey("ec");
  const now = Date.now();
  const strangerKey = newKey("ec");
  const lasting = { from: new Date(now - DAY), until: new Date(now + 9 * DAY) };
  const signer = wrong === "authority" ? { key: strangerKey, certificate: makeAuthority("stranger", strangerKey, lasting) } : authority;
  const certificate = makeCertificate(signer, {
    commonName: side,
    names: wrong === "name" ? names(side === "front" ? "spiffe://shop/other" : "other.shop.internal") : side === "front" ? frontNames : backNames,
    usages: [side === "front" ? "client" : "server"],
    key,
    ...(wrong === "expired" ? { from: new Date(now - 9 * DAY), until: new Date(now - DAY) } : lasting),
  });
  return certificateSecret(side, certificate, key);
}

const hasEnvoy = spawnSync("envoy", ["--version"]).status === 0;

for (const program of [outrider, "envoy"]) {
  const options = { ...limit, skip: program === "envoy" && !hasEnvoy && "there is no real Envoy here" };
  const label = program === "envoy" ? "real Envoy" : "Outrider";

  test(`${label}: who shows the wrong certificate is refused, and both logs and statistics say so`, options, async () => {
    const pair = new Pair(program);
    try {
      await pair.start();
      const { front, back } = pair;
      assert.equal(await pair.ping(), "+PONG\r\n");
      await until("the line of the good connection", () => /^back peer=spiffe:\/\/shop\/front flags=- why=-$/m.test(back.log()));
      const authority = pair.authority();

      /** The client side's certificate is wrong: the back proxy refuses. */
      for (const [wrong, counter] of [
        ["authority", "fail_verify_error"],
        ["expired", "fail_verify_error"],
        ["name", "fail_verify_san"],
      ] as const) {
        await pair.show("front", secret("front", authority, wrong));
        const [counted, lines] = [await back.stat(`.ssl.${counter}`), back.log().length];
        await pair.answers("", `front: ${wrong}`);
        await until(`the count of front: ${wrong}`, async () => (await back.stat(`.ssl.${counter}`)) > counted);
        assert.equal((await back.stat(`.ssl.${counter}`)) - counted, 1, `front: ${wrong}`);
        await until("the back proxy's line", () => back.log().length > lines);
        assert.match(
          back.log().slice(lines),
          /^back peer=spiffe:\/\/shop\/(?:front|other) flags=- why=TLS_error:\|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED/,
        );
      }
      await pair.show("front", secret("front", authority, ""));
      await pair.answers("+PONG\r\n", "the good certificate of front");

      const missing = await back.stat(".ssl.fail_verify_no_cert");
      const bare = connectTls({ port: pair.mtlsPort, host: "127.0.0.1", rejectUnauthorized: false });
      bare.on("error", () => {});
      bare.resume();
      await new Promise((done) => bare.on("close", done));
      await until("the count of no certificate", async () => (await back.stat(".ssl.fail_verify_no_cert")) > missing);
      assert.equal((await back.stat(".ssl.fail_verify_no_cert")) - missing, 1);

      /** The server side's certificate is wrong: the front proxy refuses, and its host counts as one that cannot be reached. */
      for (const [wrong, counter] of [
        ["authority", "fail_verify_error"],
        ["expired", "fail_verify_error"],
        ["name", "fail_verify_san"],
      ] as const) {
        await pair.show("back", secret("back", authority, wrong));
        const count = (): Promise<number[]> => Promise.all([front.stat(`.ssl.${counter}`), front.stat("cluster.database.upstream_cx_connect_fail")]);
        const [before, lines] = [await count(), front.log().length];
        await pair.answers("", `back: ${wrong}`);
        await until(`the counts of back: ${wrong}`, async () => (await count()).every((value, index) => value > before[index]));
        assert.deepEqual(
          (await count()).map((value, index) => value - before[index]),
          [1, 1],
          `back: ${wrong}`,
        );
        await until("the front proxy's line", () => front.log().length > lines);
        assert.match(front.log().slice(lines), /^front flags=UF,URX sent=0 why=TLS_error:\|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED/);
      }
      await pair.show("back", secret("back", authority, ""));
      await pair.answers("+PONG\r\n", "the good certificate of back");
    } finally {
      await pair.stop();
    }
  });
}

test("certificates and then the authority change under load, and no connection fails", limit, async () => {
  const pair = new Pair(outrider);
  let running = true;
  try {
    await pair.start();
    let asked = 0;
    const failed: string[] = [];
    const clients = Array.from({ length: 8 }, async () => {
      while (running) {
        const answer = await pair.ping();
        asked++;
        if (answer !== "+PONG\r\n") failed.push(answer);
      }
    });
    /** Some more connections have been made with what is in force now. */
    const someMore = async (): Promise<void> => {
      const target = asked + 40;
      await until("more connections", () => asked >= target);
    };
    const updates = async (): Promise<number> =>
      (await pair.front.stat("client_ssl_socket_factory.ssl_context_update_by_sds")) +
      (await pair.back.stat("server_ssl_socket_factory.ssl_context_update_by_sds"));
    await someMore();
    for (const change of [{ renewAll: true }, { newAuthority: true }, {}, { renewAll: true }]) {
      const before = await updates();
      pair.renew(change);
      await until("both proxies to take the change", async () => (await updates()) >= before + 2);
      await someMore();
    }
    running = false;
    await Promise.all(clients);
    assert.deepEqual(failed, []);
    assert.ok(asked >= 200);
    assert.equal(await pair.front.stat("cluster.database.upstream_cx_connect_fail"), 0);
    assert.equal(await pair.back.stat(".ssl.connection_error"), 0);
  } finally {
    running = false;
    await pair.stop();
  }
});
