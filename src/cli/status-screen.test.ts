import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { parseStatusJson, type ServiceReport } from "../supervise/inspect/service.ts";
import { width } from "../supervise/inspect/words.ts";
import { statusJson } from "./status-json.ts";
import { renderStatus, summary } from "./status-screen.ts";
import { frame } from "./status-watch.ts";

const now = new Date(2026, 10, 23, 12, 0, 0);
const ago = (seconds: number): string => new Date(now.getTime() - seconds * 1000).toISOString();

function report(name: string, fields: object, more: Partial<ServiceReport> = {}): ServiceReport {
  const facts = parseStatusJson(JSON.stringify({ state: "up", want: "up", pid: 4711, since: ago(11_045), starts: 3, ...fields }));
  assert.ok(facts !== undefined);
  return {
    ...facts,
    name,
    path: `/service/${name}`,
    isAsWanted: true,
    problem: undefined,
    use: undefined,
    log: undefined,
    logDirectories: [],
    lastLine: undefined,
    ...more,
  };
}

const use = { residentBytes: 45_123_456, processes: 3, cpuPercent: 1.25, cpuOver: "life" } as const;
const web = report(
  "web",
  { state: "ready", lastExit: { code: 1, signal: null, at: ago(11_046), ranMs: 12 } },
  {
    use,
    log: report("log", { starts: 1 }, { use }),
    lastLine: { directory: "/x", time: { seconds: Math.floor(now.getTime() / 1000) - 5, nanoseconds: 5e6 }, bytes: Buffer.from("GET /\t\x1b[31m200") },
  },
);
const worker = report("worker", { state: "waiting", pid: 0, since: ago(2), starts: 1 }, { isAsWanted: false, problem: "waits for db" });
const all = [web, worker];
const render = (columns: number, hasColour = false, reports: readonly ServiceReport[] = all): string[] =>
  renderStatus(reports, { where: "/service", now, columns, hasColour });

test("one line a service and one for its log, aligned", () => {
  assert.deepEqual(render(Number.POSITIVE_INFINITY), [
    "/service: 2 services, 1 not as wanted",
    "NAME    STATE     PID  SINCE      RESTARTS   MEMORY   CPU  LAST EXIT, LAST LOG LINE",
    "web     ready    4711  3 h 4 min         2  45.1 MB  1.3%  exit code 1, 3 h 4 min ago after 12 ms",
    "  log   up       4711  3 h 4 min         0  45.1 MB  1.3%  11:59:55 GET / \\x1b[31m200",
    "worker  waiting        2 s               0                 waits for db",
    "MEMORY: resident, of the process and its descendants; CPU: of one processor, average of its life",
  ]);
});

test("what a supervise that is gone has left says nothing of now", () => {
  const gone = report("web", {}, { state: "unsupervised", isAsWanted: false, problem: "no supervise runs here", pid: 0 });
  const lines = render(Number.POSITIVE_INFINITY, false, [gone]);
  assert.equal(lines[2], "web   unsupervised  no supervise runs here");
  assert.match(lines[3], /outrider svscan DIR/);
});

test("a terminal of any width gets lines that fit, with names and states for as long as there is room", () => {
  for (let columns = 1; columns < 130; columns++) {
    for (const hasColour of [false, true]) {
      for (const line of render(columns, hasColour)) assert.ok(width(stripVTControlCharacters(line)) <= columns, `${columns}: ${line}`);
    }
  }
  assert.match(render(40).join("\n"), /web +ready.*\n.*log +up.*\nworker +waiting.*waits for db/);
});

test("colours change nothing but colours", () => {
  const coloured = render(100, true);
  assert.deepEqual(
    coloured.map((line) => stripVTControlCharacters(line).trimEnd()),
    render(100),
  );
  assert.ok(coloured[2].includes("\u001b[32mready"));
  assert.ok(coloured[4].includes("\u001b[33mwaiting"));
});

test("names and lines cannot steer the terminal", () => {
  const evil = "\u001b]0;title\u0007\u009b2J\u202e\r\n";
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.integer({ min: 20, max: 120 }), (text, columns) => {
      const line = { directory: "/x", time: undefined, bytes: Buffer.from(text + evil) };
      const one = report(evil + text, { reason: evil }, { isAsWanted: false, problem: `given up: ${evil}`, lastLine: line, warnings: [evil] });
      const lines = renderStatus([one], { where: `/service${evil}`, now, columns, hasColour: false });
      for (const shown of lines) assert.ok(!/[\0-\x1f\x7f-\x9f\u202e]/.test(shown), JSON.stringify(shown));
      assert.ok(!/[\x7f-\x9f\u202e]/.test(statusJson([one], now, 0)));
      assert.equal(JSON.parse(statusJson([one], now, 0)).services[0].name, evil + text);
    }),
  );
});

test("the summary counts services whose log is not as wanted", () => {
  assert.equal(summary([web]), "1 service, all as wanted");
  assert.equal(summary([report("a", {}, { log: worker })]), "1 service, 1 not as wanted");
});

test("--json has times in ISO form and leaves out what is not known", () => {
  const data = JSON.parse(statusJson(all, now, 2));
  assert.equal(data.at, now.toISOString());
  assert.equal(data.asWanted, false);
  const [first, second] = data.services;
  assert.deepEqual(
    [first.state, first.seconds, first.restarts, first.memory.residentBytes, first.cpu],
    ["ready", 11_045, 2, 45_123_456, { percent: 1.25, over: "life" }],
  );
  assert.deepEqual(first.lastExit, { code: 1, signal: null, at: ago(11_046), ranMs: 12 });
  assert.equal(first.log.name, "log");
  assert.match(first.lastLine.at, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(Object.keys(second), ["name", "directory", "state", "want", "asWanted", "problem", "pid", "since", "seconds", "restarts"]);
});

test("a frame overwrites the one before without clearing the screen, and scrolls below the headings", () => {
  const lines = Array.from({ length: 20 }, (_, i) => `line ${i}`);
  const shown = (rows: number, top: number): string[] => stripVTControlCharacters(frame(lines, rows, top)).split("\r\n");
  assert.equal(shown(24, 0).length, 20);
  assert.deepEqual(shown(6, 0), ["line 0", "line 1", "line 2", "line 3", "line 4", "15 more lines: arrow keys, page up and down"]);
  assert.deepEqual(shown(6, 99).slice(0, 5), ["line 0", "line 1", "line 17", "line 18", "line 19"]);
  assert.ok(!frame(lines, 24, 0).includes("\u001b[2J"));
});
