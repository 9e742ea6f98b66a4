/** Filters of users in a running proxy. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { StartError, start } from "../../../api.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-module-"));
type Running = Awaited<ReturnType<typeof start>>;
const proxies: Running[] = [];
after(async () => {
  for (const proxy of proxies) await proxy.stop();
  rmSync(scratch, { recursive: true, force: true });
});

let count = 0;
function write(source: string, file = `filter${++count}.ts`): string {
  const path = join(scratch, file);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, source);
  return path;
}

const any = (type: string, more: object = {}): object => ({ "@type": `type.googleapis.com/${type}`, ...more });
function config(path: string, more: object = {}, route: object = {}): object {
  const routes = [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "from the route" } }, ...route }];
  const hcm = any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix: "in",
    route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes }] },
    http_filters: [
      { name: "mine", typed_config: any("outrider.extensions.filters.http.module.v1.Module", { path, ...more }) },
      { name: "router", typed_config: any("envoy.extensions.filters.http.router.v3.Router") },
    ],
  });
  const address = { socket_address: { address: "127.0.0.1", port_value: 0 } };
  return { static_resources: { listeners: [{ name: "l", address, filter_chains: [{ filters: [{ name: "hcm", typed_config: hcm }] }] }] } };
}
async function running(path: string, more: object = {}, route: object = {}): Promise<Running> {
  const proxy = await start({ config: config(path, more, route), onLog: () => {} });
  proxies.push(proxy);
  return proxy;
}
// A connection each: one that is open goes on with the filter it began with.
const ask = (proxy: Running, path = "/", init: RequestInit = {}): Promise<Response> =>
  fetch(`http://${proxy.address("l")}${path}`, { ...init, headers: { connection: "close", ...(init.headers as Record<string, string>) } });

test("a filter in TypeScript changes requests and responses, with settings, route settings and statistics of its own", async () => {
  const path = write(`
    import { defineHttpFilter, type DecoderFilterCallbacks, type RequestHeaders } from "outrider/filter";
    interface Settings { readonly word: string }
    export default defineHttpFilter({
      configure: (config: { word?: string }): Settings => ({ word: config.word ?? "nothing" }),
      configureRoute: (config: { word: string }): Settings => ({ word: config.word.toUpperCase() }),
      create(settings, context) {
        let callbacks: DecoderFilterCallbacks;
        return {
          setDecoderCallbacks(given) { callbacks = given; },
          decodeHeaders(headers: RequestHeaders) {
            context.counter("seen").inc();
            const { word } = callbacks.routeConfig<Settings>() ?? settings;
            if (headers.get("x-stop") !== undefined) {
              callbacks.sendLocalReply({ status: 418, body: word, details: "stopped" });
              return "stop";
            }
          },
          encodeHeaders(headers) { headers.set("x-word", settings.word); },
        };
      },
    });`);
  const perRoute = { typed_per_filter_config: { mine: any("outrider.extensions.filters.http.module.v1.ModulePerRoute", { config: { word: "route" } }) } };
  const proxy = await running(path, { config: { word: "settings" } }, perRoute);
  const through = await ask(proxy);
  assert.deepEqual([through.status, await through.text(), through.headers.get("x-word")], [200, "from the route", "settings"]);
  const stopped = await ask(proxy, "/", { headers: { "x-stop": "1" } });
  assert.deepEqual([stopped.status, await stopped.text(), stopped.headers.get("x-word")], [418, "ROUTE", "settings"]);
  assert.equal(proxy.stats().get("http.in.module.mine.seen"), 2);
});

test("asynchronous methods hold the stream; a rejection is a 500", async () => {
  const path = write(`
    export default { create: () => ({
      async decodeHeaders(headers) {
        await new Promise(setImmediate);
        if (headers.path === "/bad") throw new Error("no");
      },
      async encodeHeaders(headers) {
        await new Promise(setImmediate);
        headers.set("x-late", "yes");
      },
    }) };`);
  const proxy = await running(path);
  const good = await ask(proxy);
  assert.deepEqual([good.status, good.headers.get("x-late")], [200, "yes"]);
  assert.equal((await ask(proxy, "/bad")).status, 500);
  assert.equal(proxy.stats().get("http.in.module.mine.errors"), 1);
});

test("an exception ends one request and names its place; with failure_mode_allow the request goes on", async () => {
  const path = write(`
    export const careless = { create: () => ({
      decodeHeaders(headers) { if (headers.path === "/boom") throw new Error("boom"); },
      encodeHeaders(headers) { if (headers.get("x-never") === undefined) null.length; },
    }) };`);
  const lines: string[] = [];
  const proxy = await start({ config: config(path, { export: "careless" }), logLevel: "error", onLog: ({ message }) => lines.push(message) });
  proxies.push(proxy);
  assert.equal((await ask(proxy, "/boom")).status, 500);
  assert.equal((await ask(proxy)).status, 500);
  assert.match(lines.join("\n"), new RegExp(`filter 'mine' \\(${path}\\) failed in decodeHeaders: Error: boom\\n\\s+at .*filter\\d+\\.ts:3:\\d+`));
  const open = await running(path, { export: "careless", failure_mode_allow: true });
  assert.deepEqual([(await ask(open, "/boom")).status, (await ask(open)).status], [200, 200]);
});

test("time that a filter takes from the others is counted", async () => {
  const path = write(`export default { create: () => ({ decodeHeaders() { const end = Date.now() + 20; while (Date.now() < end); } }) };`);
  const proxy = await running(path, { time_budget: "0.01s" });
  assert.equal((await ask(proxy)).status, 200);
  assert.equal(proxy.stats().get("http.in.module.mine.over_budget"), 1);
});

test("a reload brings in what has changed, in the file and in what it imports", async () => {
  const helper = write(`export const word: string = "one";`, "lib/word.ts");
  const path = write(`import { word } from "./lib/word.ts"; export default { create: () => ({ encodeHeaders(headers) { headers.set("x-word", word); } }) };`);
  const proxy = await running(path);
  assert.equal((await ask(proxy)).headers.get("x-word"), "one");
  assert.match(await proxy.reload(), /nothing changed/);
  writeFileSync(helper, `export const word: string = "two";`);
  assert.match(await proxy.reload(), /listeners: changed l/);
  assert.equal((await ask(proxy)).headers.get("x-word"), "two");
  writeFileSync(path, "export default {;");
  await assert.rejects(proxy.reload(), /cannot be loaded/);
  assert.equal((await ask(proxy)).headers.get("x-word"), "two");
});

test("a module that cannot be used refuses the configuration, and says why", async () => {
  const refused = async (path: string, more: object = {}): Promise<string> => {
    try {
      proxies.push(await start({ config: config(path, more), onLog: () => {} }));
    } catch (error) {
      if (error instanceof StartError) return error.findings.map(({ code, text, hint }) => `${code} ${text} ${hint ?? ""}`).join("\n");
      throw error;
    }
    return "";
  };
  assert.match(await refused(join(scratch, "none.ts")), /OR3700 .*there is no such file/s);
  assert.match(await refused(write("let x: = 1;")), /OR3700 .*cannot be loaded/);
  assert.match(await refused(write(`throw new Error("not today");`)), /OR3700 .*not today/);
  assert.match(await refused(write(`export const other = 1;`)), /OR3701 .*'default' is no filter.*it exports other/);
  assert.match(await refused(write(`export default { configure() { throw new Error("word is missing"); }, create() {} };`)), /OR3702 .*word is missing/);
});
