/** Small HTTP filters in a running proxy: what a client and a log see of them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, test } from "node:test";
import { StartError, start } from "../../api.ts";

type Running = Awaited<ReturnType<typeof start>>;
const proxies: Running[] = [];
after(async () => {
  for (const proxy of proxies) await proxy.stop();
});

const any = (type: string, more: object = {}): object => ({ "@type": `type.googleapis.com/envoy.${type}`, ...more });
/** envoy.filters.http.KIND */
const filter = (kind: string, message: string, more: object = {}): object => ({
  name: `envoy.filters.http.${kind}`,
  typed_config: any(`extensions.filters.http.${kind}.v3.${message}`, more),
});
const always = { default_value: { numerator: 100 } };
const half = { numerator: 100 };

interface Options {
  readonly routes?: readonly object[];
  /** Answers with what it got: a second listener of the same proxy. */
  readonly lua?: string;
}

/** A proxy whose requests pass the filters, then an echo of our own: the request's headers as header x-got-NAME, its body as it came. */
async function running(filters: readonly object[], { routes = [] }: Options = {}): Promise<Running> {
  const echo = `
    function envoy_on_request(handle)
      local headers = { [":status"] = "200", ["x-path"] = handle:headers():get(":path") }
      for key, value in pairs(handle:headers()) do if string.sub(key, 1, 1) ~= ":" then headers["x-got-" .. key] = value end end
      local body = handle:body(true)
      handle:respond(headers, body:getBytes(0, body:length()))
    end`;
  const manager = (more: readonly object[], table: readonly object[], prefix: string): object => ({
    name: "hcm",
    typed_config: any("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
      stat_prefix: prefix,
      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: table }] },
      http_filters: [...more, filter("router", "Router")],
    }),
  });
  const listener = (name: string, hcm: object): object => ({
    name,
    address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
    filter_chains: [{ filters: [hcm] }],
  });
  const backend = await start({
    config: {
      static_resources: {
        listeners: [
          listener(
            "backend",
            manager(
              [filter("lua", "Lua", { default_source_code: { inline_string: echo } })],
              [{ match: { prefix: "/" }, direct_response: { status: 200 } }],
              "backend",
            ),
          ),
        ],
      },
    },
  });
  proxies.push(backend);
  const port = Number(backend.address("backend").split(":")[1]);
  const endpoint = { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } };
  const service = { name: "service", connect_timeout: "1s", load_assignment: { cluster_name: "service", endpoints: [{ lb_endpoints: [endpoint] }] } };
  const table = [...routes, { match: { prefix: "/" }, route: { cluster: "service" } }];
  const proxy = await start({ config: { static_resources: { listeners: [listener("front", manager(filters, table, "in"))], clusters: [service] } } });
  proxies.push(proxy);
  return proxy;
}

const ask = (proxy: Running, path = "/", init: RequestInit = {}): Promise<Response> => fetch(`http://${proxy.address("front")}${path}`, init);
const stat = (proxy: Running, name: string): number | undefined => proxy.stats().get(`http.in.${name}`);
const route = (prefix: string, kind: string, message: string, more: object): object => ({
  match: { prefix },
  route: { cluster: "service" },
  typed_per_filter_config: { [`envoy.filters.http.${kind}`]: any(`extensions.filters.http.${kind}.v3.${message}`, more) },
});

test("buffer: a body is sent with its length, and one over the limit is refused; a route may have another limit, or none", async () => {
  const proxy = await running([filter("buffer", "Buffer", { max_request_bytes: 10 })], {
    routes: [route("/big", "buffer", "BufferPerRoute", { buffer: { max_request_bytes: 100 } }), route("/off", "buffer", "BufferPerRoute", { disabled: true })],
  });
  const chunked = (text: string): RequestInit => ({ method: "POST", body: new Blob([text]).stream(), duplex: "half" }) as RequestInit;
  const whole = await ask(proxy, "/", chunked("hello"));
  assert.deepEqual([whole.headers.get("x-got-content-length"), await whole.text()], ["5", "hello"]);
  assert.equal((await ask(proxy, "/", { method: "POST", body: "x".repeat(11) })).status, 413);
  assert.equal((await ask(proxy, "/big", { method: "POST", body: "x".repeat(100) })).status, 200);
  assert.equal((await ask(proxy, "/off", chunked("y".repeat(20)))).headers.get("x-got-content-length"), null);
});

test("cors: preflights are answered, others are marked; a stranger's origin gets nothing", async () => {
  const policy = {
    allow_origin_string_match: [{ exact: "http://good.test" }],
    allow_methods: "GET,PUT",
    max_age: "60",
    allow_credentials: true,
    expose_headers: "x-c",
  };
  const proxy = await running([filter("cors", "Cors")], { routes: [route("/", "cors", "CorsPolicy", policy)] });
  const preflight = await ask(proxy, "/", { method: "OPTIONS", headers: { origin: "http://good.test", "access-control-request-method": "PUT" } });
  const allowed = (response: Response): (string | null)[] =>
    ["origin", "methods", "credentials"].map((name) => response.headers.get(`access-control-allow-${name}`));
  assert.deepEqual([preflight.status, ...allowed(preflight)], [200, "http://good.test", "GET,PUT", "true"]);
  assert.equal(preflight.headers.get("x-path"), null, "it is not forwarded");
  const plain = await ask(proxy, "/", { headers: { origin: "http://good.test" } });
  assert.deepEqual([...allowed(plain), plain.headers.get("access-control-expose-headers")], ["http://good.test", null, "true", "x-c"]);
  assert.deepEqual(allowed(await ask(proxy, "/", { headers: { origin: "http://good.test.evil" } })), [null, null, null]);
  assert.deepEqual([stat(proxy, "cors.origin_valid"), stat(proxy, "cors.origin_invalid")], [2, 1]);
});

test("csrf: what changes something has to come from the site, or from an origin that is named", async () => {
  const proxy = await running([filter("csrf", "CsrfPolicy", { filter_enabled: always, additional_origins: [{ suffix: "friend.test" }] })]);
  const site = proxy.address("front");
  const post = async (headers: Record<string, string>, method = "POST"): Promise<number> => (await ask(proxy, "/", { method, headers })).status;
  assert.equal(await post({ origin: `http://${site}` }), 200);
  assert.equal(await post({ origin: "http://a.friend.test" }), 200);
  assert.equal(await post({ referer: `http://${site}/page?x` }), 200);
  assert.equal(await post({ origin: "http://evil.test" }), 403);
  assert.equal(await post({ origin: "null" }), 403);
  assert.equal(await post({}), 403);
  assert.equal(await post({ origin: "http://evil.test" }, "GET"), 200);
});

test("fault: aborts, delays and pace; headers may ask for less, not for more", async () => {
  const abort = await running([
    filter("fault", "HTTPFault", { abort: { header_abort: {}, percentage: half }, delay: { fixed_delay: "0.02s", percentage: half } }),
  ]);
  const began = performance.now();
  assert.equal((await ask(abort)).status, 200);
  assert.ok(performance.now() - began >= 19);
  const aborted = await ask(abort, "/", { headers: { "x-envoy-fault-abort-request": "418" } });
  assert.deepEqual([aborted.status, await aborted.text()], [418, "fault filter abort"]);
  assert.equal((await ask(abort, "/", { headers: { "x-envoy-fault-abort-request": "418", "x-envoy-fault-abort-request-percentage": "0" } })).status, 200);
  assert.deepEqual([stat(abort, "fault.aborts_injected"), stat(abort, "fault.delays_injected"), stat(abort, "fault.active_faults")], [1, 3, 0]);
  const slow = await running([filter("fault", "HTTPFault", { response_rate_limit: { fixed_limit: { limit_kbps: 10 }, percentage: half } })]);
  const start = performance.now();
  const body = "x".repeat(2048);
  assert.equal(await (await ask(slow, "/", { method: "POST", body })).text(), body);
  assert.ok(performance.now() - start > 120, "2 KiB at 10 KiB/s");
});

test("set_metadata, header_to_metadata, set_filter_state leave what others read", async () => {
  const add = (key: string, value: string): object => ({ append: { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" } });
  const proxy = await running([
    filter("set_metadata", "Config", {
      metadata: [
        { metadata_namespace: "ns", value: { a: "1", l: ["x"] } },
        { metadata_namespace: "ns", value: { a: "2", l: ["y"] }, allow_overwrite: true },
      ],
    }),
    filter("header_to_metadata", "Config", {
      request_rules: [
        {
          header: "x-version",
          on_header_present: { metadata_namespace: "m", key: "v" },
          on_header_missing: { metadata_namespace: "m", key: "v", value: "none" },
          remove: true,
        },
        { cookie: "n", on_header_present: { metadata_namespace: "m", key: "n", type: "NUMBER" } },
      ],
    }),
    filter("set_filter_state", "Config", {
      on_request_headers: [{ object_key: "mine", factory_key: "envoy.string", format_string: { text_format_source: { inline_string: "path %REQ(:path)%" } } }],
    }),
    filter("header_mutation", "HeaderMutation", {
      mutations: {
        request_mutations: [
          add("x-ns", "%DYNAMIC_METADATA(ns)%"),
          add("x-m", "%DYNAMIC_METADATA(m:v)% %DYNAMIC_METADATA(m:n)%"),
          add("x-state", "%FILTER_STATE(mine:PLAIN)%"),
          { remove: "x-secret" },
        ],
        query_parameter_mutations: [{ remove: "token" }, { append: { record: { key: "added", value: "%REQ(x-m)%" } } }],
        response_mutations: [add("x-code", "%RESPONSE_CODE%")],
      },
    }),
  ]);
  const response = await ask(proxy, "/p?token=1&a=2", { headers: { "x-version": "v2", cookie: "a=b; n=5", "x-secret": "s" } });
  const got = (name: string): string | null => response.headers.get(`x-got-${name}`);
  assert.deepEqual([got("x-ns"), got("x-m"), got("x-state")], ['{"a":"2","l":["x","y"]}', "v2 5", "path /p?token=1&a=2"]);
  assert.deepEqual([got("x-secret"), got("x-version"), response.headers.get("x-code")], [null, null, "200"]);
  assert.match(response.headers.get("x-path") ?? "", /^\/p\?a=2&added=v2%205$/);
  assert.equal((await ask(proxy)).headers.get("x-got-x-m"), "none");
});

test("basic_auth: names and passwords; what a client says of itself is replaced", async () => {
  const sha = (text: string): string => `{SHA}${createHash("sha1").update(text).digest("base64")}`;
  const proxy = await running([filter("basic_auth", "BasicAuth", { users: { inline_string: `ann:${sha("a:b")}\n` }, forward_username_header: "x-user" })]);
  const as = (credentials: string | undefined, more: Record<string, string> = {}): Promise<Response> =>
    ask(proxy, "/", { headers: { ...more, ...(credentials !== undefined && { authorization: credentials }) } });
  const basic = (text: string): string => `Basic ${Buffer.from(text).toString("base64")}`;
  const good = await as(basic("ann:a:b"), { "x-user": "root" });
  assert.deepEqual([good.status, good.headers.get("x-got-x-user")], [200, "ann"]);
  for (const bad of [undefined, basic("ann:wrong"), basic("bob:a:b"), basic("ann"), "Basic !", "Bearer x", "Basic"])
    assert.equal((await as(bad)).status, 401, bad);
  assert.match((await as(undefined)).headers.get("www-authenticate") ?? "", /^Basic realm="http:/);
});

test("api_key_auth: keys of clients, hidden from the service where that is wanted", async () => {
  const proxy = await running(
    [
      filter("api_key_auth", "ApiKeyAuth", {
        credentials: [
          { key: "k1", client: "one" },
          { key: "k2", client: "two" },
        ],
        key_sources: [{ header: "authorization" }, { query: "key" }],
        forwarding: { header: "x-client", hide_credentials: true },
      }),
    ],
    { routes: [route("/two", "api_key_auth", "ApiKeyAuthPerRoute", { allowed_clients: ["two"] })] },
  );
  const one = await ask(proxy, "/?key=k1&a=1", { headers: { "x-client": "spoof" } });
  assert.deepEqual([one.status, one.headers.get("x-got-x-client"), one.headers.get("x-path")], [200, "one", "/?a=1"]);
  const two = await ask(proxy, "/two", { headers: { authorization: "Bearer k2" } });
  assert.deepEqual([two.status, two.headers.get("x-got-authorization")], [200, null]);
  assert.equal((await ask(proxy, "/two?key=k1")).status, 403);
  assert.deepEqual([(await ask(proxy)).status, (await ask(proxy, "/?key=k3")).status], [401, 401]);
});

test("health_check: answers for the service", async () => {
  const headers = [{ name: ":path", string_match: { exact: "/healthz" } }];
  const proxy = await running([filter("health_check", "HealthCheck", { pass_through_mode: false, headers })]);
  const checked = await ask(proxy, "/healthz");
  assert.deepEqual([checked.status, checked.headers.get("x-path")], [200, null]);
  assert.equal((await ask(proxy, "/other")).headers.get("x-path"), "/other");
  const passing = await running([filter("health_check", "HealthCheck", { pass_through_mode: true, cache_time: "60s", headers })]);
  assert.equal((await ask(passing, "/healthz")).headers.get("x-path"), "/healthz");
  assert.equal((await ask(passing, "/healthz")).headers.get("x-path"), null, "the answer is remembered");
});

test("settings that cannot be are refused by name", async () => {
  const refused = async (one: object): Promise<string> => {
    try {
      await running([one]);
    } catch (error) {
      if (error instanceof StartError) return error.findings.map(({ code, text }) => `${code} ${text}`).join("\n");
      throw error;
    }
    return "";
  };
  assert.match(
    await refused(filter("basic_auth", "BasicAuth", { users: { inline_string: "ann:secret" } })),
    /OR3730 .*line 1 of users: unsupported htpasswd format/,
  );
  assert.doesNotMatch(await refused(filter("basic_auth", "BasicAuth", { users: { inline_string: "ann:secret" } })), /secret/);
  assert.match(
    await refused(
      filter("api_key_auth", "ApiKeyAuth", {
        credentials: [
          { key: "k", client: "a" },
          { key: "k", client: "b" },
        ],
        key_sources: [{ header: "x" }],
      }),
    ),
    /OR3731 Duplicated credential key of client 'b'/,
  );
  assert.match(await refused(filter("header_to_metadata", "Config", { request_rules: [{ header: "x" }] })), /OR3720 .*neither present nor missing set/);
  assert.match(
    await refused(filter("set_filter_state", "Config", { on_request_headers: [{ object_key: "k", format_string: { text_format: "x" } }] })),
    /OR3710 'k' does not have an object factory/,
  );
});
