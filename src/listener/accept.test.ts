import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import type { ListenerFilter } from "../extensions/extension.ts";
import { StreamInfo } from "../http/stream-info.ts";
import { anonymousPipe } from "../net/address.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { type InspectionResult, inspect } from "./accept.ts";

/** Takes away so many bytes once it has seen them all. */
const takes = (bytes: number): ListenerFilter => ({
  maxReadBytes: 0,
  inspect(peeked, socket) {
    if (peeked.length < bytes) return "need_more";
    socket.consume(bytes);
    return "done";
  },
});

function run(filters: readonly ListenerFilter[], pieces: readonly Uint8Array[], end: boolean): Promise<{ result: InspectionResult; rest: Buffer }> {
  const stream = new PassThrough({ highWaterMark: 1 << 20 });
  const timers = new TimerWheel({ now: () => 0, wall: () => 0 });
  return new Promise((resolve) => {
    inspect(stream as unknown as Socket, {
      filters: filters.map((filter) => () => filter),
      timers,
      timeoutMs: 1000,
      continueOnTimeout: false,
      info: new StreamInfo(0, 0),
      remoteAddress: anonymousPipe,
      localAddress: anonymousPipe,
      done: (result, { rest }) => {
        assert.equal(timers.armed, 0);
        resolve({ result, rest: Buffer.from(rest) });
      },
    });
    for (const piece of pieces) stream.write(piece);
    if (end) stream.end();
  });
}

test("property: whatever the pieces and whatever filters take away, the rest is what was sent behind it", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 12 }),
      fc.array(fc.nat(15), { minLength: 1, maxLength: 4 }),
      async (pieces, counts) => {
        const all = Buffer.concat(pieces);
        const taken = counts.reduce((sum, count) => sum + count, 0);
        const { result, rest } = await run(counts.map(takes), pieces, true);
        if (taken > all.length) assert.equal(result, "closed");
        else {
          assert.equal(result, "ok");
          // What comes after the last filter was content is still in the socket.
          assert.ok(all.subarray(taken).subarray(0, rest.length).equals(rest));
        }
      },
    ),
  );
});

test("a filter that never has enough does not get more than a bounded number of bytes", async () => {
  const { result } = await run([takes(Number.POSITIVE_INFINITY)], new Array(200).fill(Buffer.alloc(1024)), false);
  assert.equal(result, "refused");
});
