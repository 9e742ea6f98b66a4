import assert from "node:assert/strict";
import { test } from "node:test";
import { TimerWheel } from "./timer-wheel.ts";

class FakeClock {
  ms = 1000;
  now(): number {
    return this.ms;
  }
  wall(): number {
    return this.ms;
  }
}

function wheelAt(): { wheel: TimerWheel; pass: (ms: number) => void; fired: string[] } {
  const clock = new FakeClock();
  const wheel = new TimerWheel(clock);
  return {
    wheel,
    fired: [],
    pass(ms) {
      clock.ms += ms;
      wheel.advance();
    },
  };
}

test("a timer fires once, not early, at most a tick late", () => {
  for (const ms of [0, 1, 4, 5, 99, 2559, 2560, 2561, 10_000, 86_400_000]) {
    const { wheel, pass, fired } = wheelAt();
    wheel.createTimer(() => fired.push("x")).enable(ms);
    if (ms > 1) pass(ms - 1);
    assert.deepEqual(fired, [], `${ms} ms: early`);
    pass(6 + (ms > 1 ? 1 : ms));
    assert.deepEqual(fired, ["x"], `${ms} ms: late`);
    pass(ms + 10_000);
    assert.deepEqual(fired, ["x"]);
    assert.equal(wheel.armed, 0);
  }
});

test("disarmed timers do not fire, moved ones fire at their new time", () => {
  const { wheel, pass, fired } = wheelAt();
  const a = wheel.createTimer(() => fired.push("a"));
  const b = wheel.createTimer(() => fired.push("b"));
  a.enable(50);
  b.enable(50);
  a.disable();
  a.disable();
  b.enable(200);
  pass(100);
  assert.deepEqual(fired, []);
  assert.equal(b.enabled, true);
  pass(110);
  assert.deepEqual(fired, ["b"]);
  assert.equal(b.enabled, false);
});

test("callbacks may arm, move and disarm others of the same slot", () => {
  const { wheel, pass, fired } = wheelAt();
  const c = wheel.createTimer(() => fired.push("c"));
  const b = wheel.createTimer(() => fired.push("b"));
  const a = wheel.createTimer(() => {
    fired.push("a");
    b.disable();
    c.enable(100);
    if (fired.length < 3) a.enable(0);
  });
  b.enable(20);
  c.enable(20);
  a.enable(20);
  pass(30);
  assert.ok(!fired.includes("b") && !fired.includes("c"));
  pass(10);
  pass(10);
  pass(200);
  assert.deepEqual(fired.join(""), "aaac");
  assert.equal(wheel.armed, 0);
});

test("after a long stall everything that is due fires", () => {
  const { wheel, pass, fired } = wheelAt();
  for (let ms = 1; ms <= 5000; ms += 7) wheel.createTimer(() => fired.push("x")).enable(ms);
  pass(60_000);
  assert.equal(fired.length, Math.ceil(5000 / 7));
});

test("on the real clock it wakes by itself", async () => {
  const wheel = new TimerWheel();
  const start = performance.now();
  await new Promise<void>((resolve) => {
    const keep = setInterval(() => {}, 1000);
    wheel
      .createTimer(() => {
        clearInterval(keep);
        resolve();
      })
      .enable(20);
  });
  assert.ok(performance.now() - start >= 20);
});
