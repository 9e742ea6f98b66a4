import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { packStatus } from "../service-directory.ts";
import { type Facts, factsOfRecord, parseExit, parseStatusJson, problemOf } from "./service.ts";

const now = new Date("2026-01-01T00:00:10Z");
const facts = (fields: object): Facts => {
  const parsed = parseStatusJson(JSON.stringify({ state: "up", want: "up", pid: 7, since: "2026-01-01T00:00:00Z", ...fields }));
  assert.ok(parsed !== undefined);
  return parsed;
};
const problem = (fields: object, around: { isAlive?: boolean; isScheduled?: boolean } = {}): string | undefined =>
  problemOf(facts(fields), { now, isAlive: true, isScheduled: false, ...around });

test("status.json is read field by field", () => {
  const lastExit = { code: 1, signal: null, at: "2026-01-01T00:00:00.000Z", ranMs: 12 };
  const all = facts({
    readySince: "2026-01-01T00:00:01Z",
    hasReadiness: true,
    starts: 3,
    lastExit,
    waitingFor: ["db"],
    reason: "why",
    problems: ["p"],
    supervisorPid: 5,
  });
  assert.deepEqual(
    [all.starts, all.lastExit?.code, all.lastExit?.ranMs, all.waitingFor, all.reason, all.warnings, all.supervisorPid],
    [3, 1, 12, ["db"], "why", ["p"], 5],
  );
  assert.equal(all.lastExit?.at?.toISOString(), lastExit.at);
});

test("whatever stands in status.json does no harm", () => {
  for (const text of ["", "null", "[]", "{", '{"state":"sideways"}', '"up"']) assert.equal(parseStatusJson(text), undefined, text);
  const odd = facts({ pid: "x", since: "yesterday", want: 5, waitingFor: "db", lastExit: [], starts: -1, supervisorPid: {}, problems: [1, "p"] });
  assert.deepEqual(
    [odd.pid, odd.since, odd.want, odd.waitingFor, odd.lastExit, odd.starts, odd.supervisorPid, odd.warnings],
    [0, undefined, undefined, [], undefined, undefined, undefined, ["p"]],
  );
  const keys = fc.constantFrom("pid", "since", "want", "lastExit", "nextStart", "waitingFor", "reason", "starts", "problems");
  fc.assert(
    fc.property(fc.dictionary(keys, fc.jsonValue()), (fields) => {
      problemOf(facts(fields), { now, isAlive: undefined, isScheduled: false });
    }),
  );
});

test("the 18 bytes of daemontools and the 20 of runit tell the state", () => {
  const record = (pid: number, want: "up" | "down" | "once", paused = false): Buffer =>
    packStatus({ since: { seconds: 1_700_000_000, nanoseconds: 0 }, pid, paused, want });
  const state = (bytes: Buffer): string | undefined => factsOfRecord(bytes)?.state;
  assert.deepEqual([record(7, "up"), record(7, "down"), record(7, "up", true), record(0, "up"), record(7, "once")].map(state), [
    "up",
    "stopping",
    "paused",
    "down",
    "up",
  ]);
  assert.equal(factsOfRecord(record(7, "up"))?.since?.toISOString(), "2023-11-14T22:13:20.000Z");
  assert.equal(state(Buffer.concat([record(7, "up"), Buffer.from([0, 1])])), "up");
  assert.equal(state(Buffer.concat([record(7, "up"), Buffer.from([0, 2])])), "finishing");
  assert.equal(state(Buffer.alloc(17)), undefined);
});

test("supervise/exit holds code and signal", () => {
  assert.deepEqual(parseExit("3 0\n"), { code: 3, signal: null });
  assert.deepEqual(parseExit("-1 9\n"), { code: null, signal: "SIGKILL" });
  assert.equal(parseExit("rubbish"), undefined);
});

test("what is as it should be has no problem", () => {
  const good = { code: 0, signal: null };
  for (const [fields, around] of [
    [{ state: "up" }, {}],
    [{ state: "ready", hasReadiness: true }, {}],
    [{ state: "down", want: "down", pid: 0 }, {}],
    [{ state: "down", want: "once", pid: 0, lastExit: good }, {}],
    [{ state: "waiting", pid: 0, lastExit: good, nextStart: "2026-01-01T00:01:00Z" }, { isScheduled: true }],
  ] as const)
    assert.equal(problem(fields, around), undefined, JSON.stringify(fields));
});

test("what is not says why, and when it goes on", () => {
  assert.equal(problem({ state: "up", hasReadiness: true }), "not ready yet");
  assert.equal(problem({ state: "waiting", pid: 0, waitingFor: ["db", "cache"] }), "waits for db, cache");
  assert.equal(problem({ state: "waiting", pid: 0, nextStart: "2026-01-01T00:00:18Z" }), "waits before it is started again; next start in 8 s");
  assert.match(problem({ state: "waiting", pid: 0, lastExit: { code: 2, signal: null } }, { isScheduled: true }) ?? "", /its last run failed/);
  assert.equal(problem({ state: "failed", pid: 0, reason: "ended 5 times" }), "given up: ended 5 times");
  assert.match(problem({ state: "unhealthy" }) ?? "", /check fails/);
  assert.match(problem({ state: "paused" }) ?? "", /svc -c/);
  assert.equal(problem({ state: "down", pid: 0 }), "wanted up");
  assert.equal(problem({ state: "up", want: "down" }), "wanted down, still up");
  assert.match(problem({ state: "up" }, { isAlive: false }) ?? "", /process has ended/);
  assert.equal(problem({ state: "down", want: "once", pid: 0, lastExit: { code: 1, signal: null } }), "ran once and failed");
});

test("a service that ends soon each time is told of while it happens to be up", () => {
  const lastExit = { code: 1, signal: null, at: "2026-01-01T00:00:08Z", ranMs: 300 };
  assert.match(problem({ since: "2026-01-01T00:00:08.7Z", starts: 5, lastExit }) ?? "", /started 5 times/);
  assert.equal(problem({ since: "2026-01-01T00:00:08.7Z", starts: 2, lastExit }), undefined);
  assert.equal(problem({ since: "2026-01-01T00:00:00Z", starts: 5, lastExit }), undefined);
});

test("without a supervise its process may still run", () => {
  const stale = { ...facts({}), state: "unsupervised" as const };
  assert.match(problemOf(stale, { now, isAlive: true, isScheduled: false }) ?? "", /no supervise.*process 7/);
  assert.equal(problemOf(stale, { now, isAlive: false, isScheduled: false }), "no supervise runs here");
});
