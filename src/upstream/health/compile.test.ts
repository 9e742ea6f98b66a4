import assert from "node:assert/strict";
import { test } from "node:test";
import { testContext } from "../../testing/compile-context.ts";
import { assignment, at, compiled } from "../testing.ts";

function findings(cluster: object): string[] {
  const context = testContext();
  compiled({ load_assignment: assignment(at(1)), ...cluster }, context);
  return context.findings;
}
const base = { timeout: "1s", interval: "1s", unhealthy_threshold: 1, healthy_threshold: 1 };
const of = (...checks: object[]): string[] => findings({ health_checks: checks.map((check) => ({ ...base, ...check })) });

test("intervals fall back on each other", () => {
  const [settings] = compiled({ load_assignment: assignment(at(1)), health_checks: [{ ...base, tcp_health_check: {} }] }).healthChecks;
  const { noTrafficIntervalMs, noTrafficHealthyIntervalMs, unhealthyIntervalMs, unhealthyEdgeIntervalMs, healthyEdgeIntervalMs, reuseConnection } = settings;
  assert.deepEqual(
    [noTrafficIntervalMs, noTrafficHealthyIntervalMs, unhealthyIntervalMs, unhealthyEdgeIntervalMs, healthyEdgeIntervalMs, reuseConnection],
    [60_000, 60_000, 1000, 1000, 1000, true],
  );
});

for (const [name, found, expected] of [
  ["a payload that is no hexadecimal", () => of({ tcp_health_check: { send: { text: "zz" } } }), /invalid hex string 'zz'/],
  ["a body with GET", () => of({ http_health_check: { path: "/", send: { text: "00" } } }), /cannot specify a request payload with method 'GET'/],
  [
    "an empty range of statuses",
    () => of({ http_health_check: { path: "/", expected_statuses: [{ start: 200, end: 200 }] } }),
    /expecting start < end, but found start=200/,
  ],
  [
    "a status below 100",
    () => of({ http_health_check: { path: "/", retriable_statuses: [{ start: 99, end: 200 }] } }),
    /Invalid http retriable status range: expecting start >= 100/,
  ],
  ["a status above 599", () => of({ http_health_check: { path: "/", expected_statuses: [{ start: 200, end: 601 }] } }), /expecting end <= 600/],
  [
    "more wanted than is looked at",
    () => of({ http_health_check: { path: "/", receive: [{ text: "000000" }], response_buffer_size: 2 } }),
    /response length '3' is over/,
  ],
  ["HTTP/3", () => of({ http_health_check: { path: "/", codec_client_type: "HTTP3" } }), /over HTTP\/3 are not supported/],
  ["gRPC without HTTP/2", () => of({ grpc_health_check: {} }), /service cluster must support HTTP\/2 for gRPC healthchecking/],
  ["several without names", () => of({ tcp_health_check: {} }, { tcp_health_check: {} }), /health check at index 0 is missing a name/],
  ["one name twice", () => of({ name: "a", tcp_health_check: {} }, { name: "a", tcp_health_check: {} }), /duplicate health check name 'a' at index 1/],
  ["alt_port", () => of({ alt_port: 80, tcp_health_check: {} }), /alt_port has no effect/],
  [
    "too short a longest ejection",
    () => findings({ outlier_detection: { base_ejection_time: "10s", max_ejection_time: "5s" } }),
    /max_ejection_time cannot be smaller/,
  ],
] as const) {
  test(`told at load: ${name}`, () => {
    const [first] = found();
    assert.match(first ?? "", expected);
  });
}
