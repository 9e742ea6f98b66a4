import assert from "node:assert/strict";
import { test } from "node:test";
import { type HarnessOptions, RouterHarness } from "./testing.ts";

const policy = (fields: object = {}): HarnessOptions => ({ action: { internal_redirect_policy: fields } });

function redirected(options: HarnessOptions, location: string | undefined, status = 302, fields: Record<string, string> = {}): RouterHarness {
  const bed = new RouterHarness(options).request({ "x-old": "1" }, { path: "/start?a=1" });
  bed.last.answer(status, { ...(location === undefined ? {} : { location }), ...fields });
  return bed;
}

test("a redirect is followed", () => {
  const bed = redirected(policy(), "http://b.test/final?x=1#part");
  assert.equal(bed.recreated, true);
  assert.deepEqual(
    [bed.headers?.authority, bed.headers?.path, bed.headers?.get("x-envoy-original-url"), bed.details, bed.info.responseCode],
    ["b.test", "/final?x=1", "http://a.test/start?a=1", "internal_redirect", 302],
  );
  assert.deepEqual([bed.cluster("upstream_internal_redirect_succeeded_total"), bed.cluster("upstream_rq_302"), bed.response], [1, 0, undefined]);
  assert.equal(bed.timers.armed, 0);
});

test("what is not followed is passed on", () => {
  const refused = (bed: RouterHarness, stat: string | undefined): void => {
    assert.deepEqual(
      [bed.recreated, bed.response?.status, bed.headers?.path, bed.headers?.authority],
      [undefined, bed.response?.status, "/start?a=1", "a.test"],
    );
    assert.equal(bed.response === undefined, false);
    if (stat !== undefined) assert.equal(bed.stat(`http.test.passthrough_internal_redirect_${stat}`), 1);
  };
  refused(redirected(policy(), undefined), undefined);
  refused(redirected(policy(), "/relative"), "bad_location");
  refused(redirected(policy(), "ftp://b.test/"), "bad_location");
  refused(redirected(policy(), "https://b.test/"), "unsafe_scheme");
  refused(redirected(policy({ max_internal_redirects: 0 }), "http://b.test/"), "too_many_redirects");
  refused(redirected(policy({ redirect_response_codes: [307] }), "http://b.test/"), undefined);
  refused(redirected({ ...policy(), virtualHost: { domains: ["a.test"] } }, "http://b.test/"), "no_route");
});

test("fields of the response may go with the new request", () => {
  const bed = redirected(policy({ response_headers_to_copy: ["x-new", "x-old"] }), "http://b.test/", 302, { "x-new": "2" });
  assert.deepEqual([bed.headers?.get("x-new"), bed.headers?.get("x-old")], ["2", undefined]);
});

test("the body goes along, but not after 303", () => {
  const options = policy({ redirect_response_codes: [303, 307] });
  let bed = new RouterHarness(options).request({ "content-length": "4" }, { method: "POST", body: "body" });
  bed.last.answer(307, { location: "http://b.test/" });
  assert.deepEqual([String(bed.recreated), bed.headers?.method], ["body", "POST"]);
  bed = new RouterHarness(options).request({ "content-length": "4" }, { method: "POST", body: "body" });
  bed.last.answer(303, { location: "http://b.test/" });
  assert.deepEqual([bed.recreated, bed.headers?.method, bed.headers?.get("content-length")], [true, "GET", undefined]);
});

test("a request that is not complete, or too large to keep, is not sent again", () => {
  let bed = new RouterHarness(policy()).request({}, { method: "POST", body: null }).data("x");
  bed.last.answer(302, { location: "http://b.test/" });
  assert.deepEqual([bed.recreated, bed.status, bed.cluster("upstream_internal_redirect_failed_total")], [undefined, 302, 1]);
  bed = new RouterHarness({ ...policy(), bufferLimit: 3 }).request({}, { method: "POST", body: "too long" });
  bed.last.answer(302, { location: "http://b.test/" });
  assert.deepEqual([bed.recreated, bed.status, bed.last.body], [undefined, 302, "too long"]);
});

test("predicates", () => {
  const with_ = (type: string, config: object = {}, more: object = {}): HarnessOptions =>
    policy({ ...more, predicates: [{ name: "p", typed_config: { "@type": `type.googleapis.com/envoy.extensions.internal_redirect.${type}`, ...config } }] });
  const allowed = (names: string[]): HarnessOptions => ({
    ...with_("allow_listed_routes.v3.AllowListedRoutesConfig", { allowed_route_names: names }),
    route: { name: "here" },
  });
  assert.equal(redirected(allowed(["here"]), "http://b.test/").recreated, true);
  const refused = redirected(allowed(["there"]), "http://b.test/");
  assert.deepEqual([refused.recreated, refused.stat("http.test.passthrough_internal_redirect_predicate")], [undefined, 1]);
  const cross = with_("safe_cross_scheme.v3.SafeCrossSchemeConfig", {}, { allow_cross_scheme_redirect: true });
  assert.equal(redirected(cross, "https://b.test/").recreated, undefined);
  assert.equal(redirected(policy({ allow_cross_scheme_redirect: true }), "https://b.test/").recreated, true);
  assert.equal(redirected(with_("previous_routes.v3.PreviousRoutesConfig"), "http://b.test/").recreated, true);
});
