import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import { StreamInfo } from "../http/stream-info.ts";
import { loadExtensions, message, type TestContext, testContext } from "../testing/compile-context.ts";
import { compileRouteConfiguration } from "./compile.ts";
import type { DirectRoute, ForwardRoute, Route, RouteTable } from "./route.ts";

const any = { path: "/", status: 200 };

function direct(text: string, match: object = { prefix: "/" }): object {
  return { match, direct_response: { status: any.status, body: { inline_string: text } } };
}
function host(name: string, domains: string[], ...routes: object[]): object {
  return { name, domains, routes };
}
function table(config: object, context: TestContext = testContext({ clusters: ["service", "a", "b", "c"] })): RouteTable {
  const compiled = compileRouteConfiguration(message("envoy.config.route.v3.RouteConfiguration", { name: "local", ...config }), context);
  assert.deepEqual(context.findings, []);
  return compiled;
}
function findings(config: object, context: TestContext = testContext({ clusters: ["service"] })): string[] {
  compileRouteConfiguration(message("envoy.config.route.v3.RouteConfiguration", { name: "local", ...config }), context);
  return context.findings;
}
function request(path: string | undefined, fields: Record<string, string> = {}, authority = "a.test", method = "GET"): RequestHeaders {
  const headers = new RequestHeaders(method, path, authority, "http", []);
  for (const [name, value] of Object.entries(fields)) headers.add(name, value);
  return headers;
}
const info = (): StreamInfo => new StreamInfo(0, 0);
function says(routes: RouteTable, headers: RequestHeaders, random = 0): string | undefined {
  const route = routes.match(headers, info(), random);
  return route === undefined ? undefined : String((route as DirectRoute).body(headers, info()));
}
function forward(routes: RouteTable, headers: RequestHeaders, random = 0): ForwardRoute {
  const route = routes.match(headers, info(), random);
  assert.equal(route?.kind, "forward");
  return route as ForwardRoute;
}
function one(route: object, hostFields: object = {}, config: object = {}): RouteTable {
  return table({ ...config, virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, ...route }], ...hostFields }] });
}

test("domains: exact, then the longest suffix, then the longest prefix, then the star", () => {
  const routes = table({
    virtual_hosts: [
      host("star", ["*"], direct("star")),
      host("p1", ["www.*"], direct("prefix")),
      host("p2", ["www.foo.*"], direct("long prefix")),
      host("s1", ["*.com"], direct("suffix")),
      host("s2", ["*.foo.com", "*-bar.foo.com"], direct("long suffix")),
      host("e", ["www.FOO.com"], direct("exact")),
    ],
  });
  for (const [authority, want] of Object.entries({
    "www.foo.com": "exact",
    "WWW.foo.COM": "exact",
    "a.foo.com": "long suffix",
    "x-bar.foo.com": "long suffix",
    "foo.com": "suffix",
    ".com": "star",
    "www.foo.net": "long prefix",
    "www.x.org": "prefix",
    "else.org": "star",
  }))
    assert.equal(says(routes, request("/", {}, authority)), want, authority);
});

test("a port is part of the host unless it is ignored", () => {
  const hosts = [host("a", ["a.test"], direct("bare")), host("b", ["a.test:80"], direct("80"))];
  assert.equal(says(table({ virtual_hosts: hosts }), request("/", {}, "a.test:80")), "80");
  assert.equal(says(table({ virtual_hosts: hosts }), request("/", {}, "a.test:81")), undefined);
  const ignoring = table({ ignore_port_in_host_matching: true, virtual_hosts: [host("a", ["a.test"], direct("bare"))] });
  assert.equal(says(ignoring, request("/", {}, "a.test:81")), "bare");
  assert.equal(says(ignoring, request("/", {}, "a.test:x")), undefined);
});

test("duplicate domains, unknown clusters and bad values are found, all of them", () => {
  const found = findings({
    virtual_hosts: [
      {
        name: "one",
        domains: ["a.test", "*"],
        routes: [
          { match: { prefix: "/" }, route: { cluster: "nowhere", prefix_rewrite: "/a", regex_rewrite: { pattern: { regex: "a" }, substitution: "b" } } },
        ],
      },
      {
        name: "two",
        domains: ["A.test", "*"],
        routes: [{ match: { safe_regex: { regex: "(abc" } }, route: { weighted_clusters: { clusters: [{ name: "gone", weight: 0 }] } } }],
      },
      {
        name: "three",
        domains: ["c"],
        routes: [
          {
            match: { prefix: "/", headers: [{ name: "x", string_match: { safe_regex: { regex: "[a" } } }] },
            direct_response: { status: 200, body: { filename: "/nowhere.html" } },
          },
          { match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "x".repeat(4097) } } },
          {
            match: { prefix: "/" },
            route: {
              cluster: "service",
              request_mirror_policies: [{ cluster: "mirror" }],
              retry_policy: { retry_back_off: { base_interval: "1s", max_interval: "0.1s" } },
            },
          },
          {
            match: { prefix: "/" },
            route: { cluster: "service" },
            request_headers_to_add: [{ header: { key: ":path", value: "/" } }],
            request_headers_to_remove: ["Host"],
          },
        ],
      },
    ],
  });
  const all = found.join("\n");
  for (const part of [
    "domain A.test",
    '"*"',
    "cluster 'nowhere'",
    "weighted cluster 'gone'",
    "missing ): (abc",
    "missing ]: [a",
    "/nowhere.html",
    "4097 bytes; maximum is 4096",
    "shadow cluster 'mirror'",
    "max_interval",
    "only one of prefix_rewrite",
    "greater than 0",
    '":path"',
    '"Host"',
  ])
    assert.ok(all.includes(part), `${part} in\n${all}`);
});

test("clusters are not checked where validate_clusters is off", () => {
  assert.deepEqual(findings({ validate_clusters: false, virtual_hosts: [host("v", ["*"], { match: { prefix: "/" }, route: { cluster: "nowhere" } })] }), []);
});

test("path conditions look at the path without its query, the first route wins", () => {
  const routes = table({
    virtual_hosts: [
      host(
        "v",
        ["*"],
        direct("exact", { path: "/exact" }),
        direct("regex", { safe_regex: { regex: "/item/[0-9]+" } }),
        direct("separated", { path_separated_prefix: "/api/dev" }),
        direct("folded", { prefix: "/Fold", case_sensitive: false }),
        direct("short", { prefix: "/a" }),
        direct("never", { path: "/a/b" }),
        direct("rest"),
      ),
    ],
  });
  for (const [path, want] of Object.entries({
    "/exact?q": "exact",
    "/exact/": "rest",
    "/item/12?x=/a": "regex",
    "/item/12/": "rest",
    "/api/dev": "separated",
    "/api/dev/x": "separated",
    "/api/dev?x": "separated",
    "/api/developer": "short",
    "/fOLDER": "folded",
    "/a/b": "short",
    "/b": "rest",
  }))
    assert.equal(says(routes, request(path)), want, path);
});

test("path parameters can be left out of the match", () => {
  const routes = table({ ignore_path_parameters_in_path_matching: true, virtual_hosts: [host("v", ["*"], direct("x", { path: "/a" }))] });
  assert.equal(says(routes, request("/a;b=c?d")), "x");
});

test("conditions: fields, parameters, cookies, gRPC, CONNECT, TLS, metadata, fractions", () => {
  const context = testContext();
  const routes = table(
    {
      virtual_hosts: [
        host(
          "v",
          ["*"],
          direct("connect", { connect_matcher: {} }),
          direct("grpc", { prefix: "/", grpc: {} }),
          direct("header", { prefix: "/", headers: [{ name: "X-A", string_match: { exact: "1" } }] }),
          direct("query", { prefix: "/", query_parameters: [{ name: "q", string_match: { prefix: "ab" } }] }),
          direct("cookie", { prefix: "/", cookies: [{ name: "c", string_match: { exact: "yes" } }] }),
          direct("tls", { prefix: "/", tls_context: { presented: true } }),
          direct("metadata", { prefix: "/", dynamic_metadata: [{ filter: "f", path: [{ key: "k" }], value: { string_match: { exact: "v" } } }] }),
          direct("fraction", { prefix: "/", runtime_fraction: { default_value: { numerator: 10 }, runtime_key: "r" } }),
          direct("rest"),
        ),
      ],
    },
    context,
  );
  assert.equal(says(routes, request(undefined, {}, "a.test:443", "CONNECT")), "connect");
  assert.equal(says(routes, request("/", { "content-type": "application/grpc+proto" })), "grpc");
  assert.equal(says(routes, request("/", { "content-type": "application/grpc-web" }), 50), "rest");
  assert.equal(says(routes, request("/", { "x-a": "1" })), "header");
  assert.equal(says(routes, request("/?q=abc")), "query");
  assert.equal(says(routes, request("/", { cookie: "b=1; c=yes" })), "cookie");
  const headers = request("/");
  const stream = info();
  stream.setDynamicMetadata("f", { k: "v" });
  assert.equal(String((routes.match(headers, stream, 50) as DirectRoute).body(headers, stream)), "metadata");
  assert.equal(says(routes, request("/"), 9), "fraction");
  assert.equal(says(routes, request("/"), 10), "rest");
  context.setRuntime({ r: 100 });
  assert.equal(says(routes, request("/"), 99), "fraction");
});

test("templates name parts of the path for the rewrite", async () => {
  const extensions = await loadExtensions(
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
    "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
  );
  const type = "type.googleapis.com/envoy.extensions.path.";
  const routes = table(
    {
      virtual_hosts: [
        host("v", ["*"], {
          match: {
            path_match_policy: {
              name: "m",
              typed_config: { "@type": `${type}match.uri_template.v3.UriTemplateMatchConfig`, path_template: "/api/{lang}/{rest=**}" },
            },
          },
          route: {
            cluster: "service",
            path_rewrite_policy: {
              name: "r",
              typed_config: { "@type": `${type}rewrite.uri_template.v3.UriTemplateRewriteConfig`, path_template_rewrite: "/{rest}/in/{lang}" },
            },
          },
        }),
      ],
    },
    testContext({ clusters: ["service"], extensions }),
  );
  const headers = request("/api/en/a/b?q=1");
  forward(routes, headers).finalizeRequestHeaders(headers, info(), false);
  assert.equal(headers.path, "/a/b/in/en?q=1");
  assert.equal(headers.get("x-envoy-original-path"), "/api/en/a/b?q=1");
  assert.equal(routes.match(request("/other"), info(), 0), undefined);
});

test("rewrites of path and host", () => {
  const rewritten = (route: object, path: string, match: object = { prefix: "/" }, fields: Record<string, string> = {}): RequestHeaders => {
    const routes = one({ match, route: { cluster: "service", ...route } });
    const headers = request(path, fields, "old.test");
    forward(routes, headers).finalizeRequestHeaders(headers, info(), false);
    return headers;
  };
  assert.equal(rewritten({ prefix_rewrite: "/new/" }, "/old/x?z=1", { prefix: "/old/" }).path, "/new/x?z=1");
  assert.equal(rewritten({ prefix_rewrite: "/two" }, "/one?q", { path: "/one" }).path, "/two?q");
  assert.equal(rewritten({ prefix_rewrite: "/two" }, "/abc?q", { safe_regex: { regex: "/.*" } }).path, "/two?q");
  assert.equal(rewritten({ regex_rewrite: { pattern: { regex: "one" }, substitution: "two" } }, "/one/one?one").path, "/two/two?one");
  assert.equal(rewritten({}, "/x").get("x-envoy-original-path"), undefined);
  const literal = rewritten({ host_rewrite_literal: "new.test", append_x_forwarded_host: true }, "/");
  assert.equal(literal.authority, "new.test");
  assert.equal(literal.get("x-forwarded-host"), "old.test");
  assert.equal(rewritten({ host_rewrite_header: "x-host" }, "/", undefined, { "x-host": "h.test" }).authority, "h.test");
  assert.equal(rewritten({ host_rewrite_header: "x-host" }, "/").authority, "old.test");
  assert.equal(rewritten({ host_rewrite_path_regex: { pattern: { regex: "^/(.+)/.+$" }, substitution: "\\1" } }, "/h.test/x?/y").authority, "h.test");
});

test("redirects", () => {
  const location = (redirect: object, path: string, match: object = { prefix: "/" }, authority = "old.test"): string | undefined => {
    const headers = request(path, {}, authority);
    const route = one({ match, redirect }).match(headers, info(), 0) as DirectRoute;
    assert.equal(route.status, 301);
    return route.location(headers, info());
  };
  assert.equal(location({ https_redirect: true }, "/a?b=1"), "https://old.test/a?b=1");
  assert.equal(location({ https_redirect: true }, "/", undefined, "a.test:80"), "https://a.test/");
  assert.equal(location({ https_redirect: true }, "/", undefined, "a.test:8080"), "https://a.test:8080/");
  assert.equal(location({ https_redirect: true, port_redirect: 8443 }, "/", undefined, "[::1]:80"), "https://[::1]:8443/");
  assert.equal(location({ host_redirect: "new.test" }, "/a?b=1"), "http://new.test/a?b=1");
  assert.equal(location({ port_redirect: 8443 }, "/"), "http://old.test:8443/");
  assert.equal(location({ scheme_redirect: "ftp" }, "/"), "ftp://old.test/");
  assert.equal(location({ path_redirect: "/other" }, "/x?b=1"), "http://old.test/other?b=1");
  assert.equal(location({ path_redirect: "/other?z=2" }, "/x?b=1"), "http://old.test/other?z=2");
  assert.equal(location({ prefix_rewrite: "/fresh/" }, "/p/a?b=1", { prefix: "/p/" }), "http://old.test/fresh/a?b=1");
  assert.equal(location({ regex_rewrite: { pattern: { regex: "^/r/(.*)$" }, substitution: "/x/\\1" } }, "/r/a?c=1"), "http://old.test/x/a?c=1");
  assert.equal(location({ path_redirect: "/s", strip_query: true }, "/x?b=1"), "http://old.test/s");
});

test("require_tls sends requests to https, internal ones only where all must", () => {
  const external = one({ route: { cluster: "service" } }, { require_tls: "EXTERNAL_ONLY" });
  assert.equal(external.match(request("/"), info(), 0)?.kind, "direct");
  assert.equal(external.match(request("/", { "x-envoy-internal": "true" }), info(), 0)?.kind, "forward");
  assert.equal(external.match(request("/", { "x-forwarded-proto": "https" }), info(), 0)?.kind, "forward");
  const all = one({ route: { cluster: "service" } }, { require_tls: "ALL" });
  const headers = request("/x?y", { "x-envoy-internal": "true" }, "a.test:8080");
  assert.equal((all.match(headers, info(), 0) as DirectRoute).location(headers, info()), "https://a.test:8080/x?y");
});

test("weights share requests by their random value", () => {
  const routes = one({
    route: {
      weighted_clusters: {
        clusters: [
          { name: "a", weight: 80 },
          { name: "b", weight: 20 },
          { name: "c", weight: 0 },
        ],
      },
    },
  });
  const counts = new Map<string, number>();
  for (let random = 0; random < 1000; random++) {
    const name = forward(routes, request("/"), random).clusterName;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  assert.deepEqual(
    [...counts],
    [
      ["a", 800],
      ["b", 200],
    ],
  );
  const byHeader = one({
    route: {
      weighted_clusters: {
        header_name: "x-r",
        clusters: [
          { name: "a", weight: 1 },
          { name: "b", weight: 1 },
        ],
      },
    },
  });
  assert.equal(forward(byHeader, request("/", { "x-r": "1" }), 0).clusterName, "b");
  assert.equal(forward(byHeader, request("/", { "x-r": "no" }), 0).clusterName, "a");
});

test("a header names the cluster", () => {
  const routes = one({ route: { cluster_header: "X-Cluster" } });
  assert.equal(forward(routes, request("/", { "x-cluster": "b" })).clusterName, "b");
  assert.equal(forward(routes, request("/")).clusterName, "");
});

test("header changes go from route over virtual host to route configuration, or the other way round", () => {
  const add = (key: string, value: string): object => ({ header: { key, value } });
  const config = (wins: boolean): RouteTable =>
    table({
      most_specific_header_mutations_wins: wins,
      request_headers_to_add: [add("x", "config")],
      virtual_hosts: [
        {
          name: "v",
          domains: ["*"],
          request_headers_to_add: [add("x", "host")],
          response_headers_to_add: [add("y", "host")],
          routes: [
            {
              match: { prefix: "/" },
              request_headers_to_add: [add("x", "route")],
              response_headers_to_add: [add("y", "route")],
              route: {
                weighted_clusters: {
                  clusters: [{ name: "a", weight: 1, request_headers_to_add: [add("x", "cluster")], response_headers_to_add: [add("y", "cluster")] }],
                },
              },
            },
          ],
        },
      ],
    });
  for (const [wins, requests, responses] of [
    [false, ["cluster", "route", "host", "config"], ["cluster", "route", "host"]],
    [true, ["config", "host", "route", "cluster"], ["host", "route", "cluster"]],
  ] as const) {
    const headers = request("/");
    const route = forward(config(wins), headers);
    route.finalizeRequestHeaders(headers, info(), false);
    assert.deepEqual(headers.getAll("x"), requests);
    const response = new ResponseHeaders(200);
    route.finalizeResponseHeaders(response, info(), headers);
    assert.deepEqual(response.getAll("y"), responses);
  }
});

test("hash policies: equal requests hash alike, cookies are made", () => {
  const routes = one({
    route: { cluster: "service", hash_policy: [{ header: { header_name: "x-user" } }, { cookie: { name: "c", ttl: "60s", path: "/p" } }] },
  });
  const policy = forward(routes, request("/")).hashPolicy;
  const cookies: string[] = [];
  const stream = info();
  stream.downstreamRemoteAddress = { kind: "ip", ip: "1.2.3.4", port: 5, family: 4, text: "1.2.3.4:5" };
  policy?.hash(request("/"), stream, (cookie) => cookies.push(cookie));
  assert.match(cookies[0], /^c="[0-9a-f]{16}"; Max-Age=60; Path=\/p; HttpOnly$/);
  const again = { cookie: cookies[0].split(";")[0], "x-user": "u" };
  assert.equal(
    policy?.hash(request("/", again), stream, () => assert.fail("no new cookie")),
    policy?.hash(request("/other", again), stream, () => assert.fail("no new cookie")),
  );
});

test("virtual clusters and stat prefixes count", () => {
  const context = testContext({ clusters: ["service"] });
  const routes = table(
    {
      virtual_hosts: [
        {
          name: "shop",
          domains: ["*"],
          virtual_clusters: [{ name: "reads", headers: [{ name: ":method", string_match: { exact: "GET" } }] }],
          routes: [{ match: { prefix: "/" }, stat_prefix: "all", route: { cluster: "service" } }],
        },
      ],
    },
    context,
  );
  const route = forward(routes, request("/"));
  route.virtualHost.virtualCluster(request("/"))?.onResponse(204);
  assert.equal(route.virtualHost.virtualCluster(request("/", {}, "a", "POST")), undefined);
  route.routeStats?.onRequest();
  assert.equal(context.stats.counter("vhost.shop.vcluster.reads.upstream_rq_204").value, 1);
  assert.equal(context.stats.counter("vhost.shop.vcluster.reads.upstream_rq_2xx").value, 1);
  assert.equal(context.stats.counter("vhost.shop.route.all.upstream_rq_total").value, 1);
});

test("a virtual host's matcher picks routes", () => {
  const input = (name: string): object => ({
    name: "i",
    typed_config: { "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name: name },
  });
  const action = (text: string): object => ({
    action: { name: "r", typed_config: { "@type": "type.googleapis.com/envoy.config.route.v3.Route", ...direct(text) } },
  });
  const tree = table({
    virtual_hosts: [
      {
        name: "v",
        domains: ["*"],
        matcher: {
          matcher_tree: { input: input("x-key"), exact_match_map: { map: { one: action("first"), two: action("second") } } },
          on_no_match: action("default"),
        },
      },
    ],
  });
  assert.deepEqual(
    ["one", "two", "three"].map((key) => says(tree, request("/", { "x-key": key }))),
    ["first", "second", "default"],
  );
  const single = (name: string, value: object): object => ({ single_predicate: { input: input(name), value_match: value } });
  const list = table({
    virtual_hosts: [
      {
        name: "v",
        domains: ["*"],
        matcher: {
          matcher_list: {
            matchers: [
              { predicate: { and_matcher: { predicate: [single("a", { exact: "1" }), single("b", { prefix: "2" })] } }, on_match: action("and") },
              { predicate: { not_matcher: single("d", { safe_regex: { google_re2: {}, regex: "[0-9]+" } }) }, on_match: action("not") },
            ],
          },
        },
      },
    ],
  });
  assert.equal(says(list, request("/", { a: "1", b: "22" })), "and");
  assert.equal(says(list, request("/", { d: "x" })), "not");
  assert.equal(says(list, request("/", { d: "12" })), undefined);
});

test("an indexed table finds the route that a scan in order finds", () => {
  const segment = fc.constantFrom("a", "b", "ab", "A", "");
  const path = fc.array(segment, { maxLength: 3 }).map((parts) => `/${parts.join("/")}`);
  const match = fc.oneof(
    path.map((prefix) => ({ prefix })),
    path.map((exact) => ({ path: exact })),
    path.filter((text) => text.length > 1 && !text.endsWith("/")).map((text) => ({ path_separated_prefix: text })),
    fc.tuple(path, fc.constantFrom("prefix", "path")).map(([text, kind]) => ({ [kind]: text, case_sensitive: false })),
    path.map((text) => ({ safe_regex: { regex: `${text}.*` } })),
  );
  const conditional = fc.tuple(match, fc.boolean()).map(([one, guarded]) => (guarded ? { ...one, headers: [{ name: "x", present_match: true }] } : one));
  fc.assert(
    fc.property(
      fc.array(conditional, { minLength: 1, maxLength: 12 }),
      fc.array(fc.tuple(path, fc.boolean()), { minLength: 1, maxLength: 8 }),
      (matches, requests) => {
        const routes = table({ virtual_hosts: [host("v", ["*"], ...matches.map((one, index) => direct(`r${index}`, one)))] });
        const alone = matches.map((one) => table({ virtual_hosts: [host("v", ["*"], direct("x", one))] }));
        for (const [text, withField] of requests) {
          const headers = request(`${text}?q`, withField ? { x: "1" } : {});
          const expected = alone.findIndex((single) => single.match(headers, info(), 0) !== undefined);
          assert.equal(says(routes, headers), expected < 0 ? undefined : `r${expected}`, text);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("thousands of routes compile at once and are found without a scan", () => {
  const routes: object[] = [];
  for (let i = 0; i < 5000; i++) routes.push({ match: { prefix: `/service-${i}/` }, route: { cluster: "service", timeout: "3s" } });
  const context = testContext({ clusters: ["service"] });
  const config = message("envoy.config.route.v3.RouteConfiguration", { name: "big", virtual_hosts: [host("v", ["*"], ...routes)] });
  const from = performance.now();
  const compiled = compileRouteConfiguration(config, context);
  assert.ok(performance.now() - from < 2000, "5,000 routes compile in time");
  const found: Route | undefined = compiled.match(request("/service-4999/x"), info(), 0);
  assert.equal(found?.matchText, "/service-4999/");
});
