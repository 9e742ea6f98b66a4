import assert from "node:assert/strict";
import { test } from "node:test";
import { offsetAt, type PosixTimeZone, parsePosixTimeZone } from "./posix-time-zone.ts";
import { packLabel, stamp, unpackLabel } from "./tai64n.ts";
import { Converter } from "./tools/tai64nlocal.ts";

test("labels are 2^62 + 10 + Unix seconds, before 1970 and after 2106, too", () => {
  assert.equal(stamp({ seconds: 935467445, nanoseconds: 787492500 }), "@4000000037c219bf2ef02e94");
  for (const time of [
    { seconds: 0, nanoseconds: 0 },
    { seconds: -11, nanoseconds: 999_999_999 },
    { seconds: 4_294_967_295, nanoseconds: 1 },
    { seconds: 99_999_999_999, nanoseconds: 5 },
  ]) {
    const bytes = Buffer.alloc(12);
    packLabel(time, bytes);
    assert.deepEqual(unpackLabel(bytes), time);
  }
});

test("stamps are converted at line starts only, whatever the pieces; what is no stamp stays", () => {
  const text =
    "@400000000000000a00000000 a\nx @400000000000000a00000000\n@short\n@400000000000000A00000000 upper\n@400000000000000a000000001 long\n@400000000000000a00000000";
  const want = (): string => {
    const converter = new Converter();
    return converter.feed(Buffer.from(text)).toString() + converter.end().toString();
  };
  const whole = want();
  assert.match(whole, /^19(69|70)-/);
  assert.match(whole, /\nx @400000000000000a00000000\n@short\n@400000000000000A00000000 upper\n@400000000000000a000000001 long\n19(69|70)-[^\n]*$/);
  for (let split = 1; split < text.length; split++) {
    const converter = new Converter();
    const parts = [converter.feed(Buffer.from(text.slice(0, split))), converter.feed(Buffer.from(text.slice(split))), converter.end()];
    assert.equal(Buffer.concat(parts).toString(), whole, `split at ${split}`);
  }
});

test("POSIX time zones: offsets west are positive, summer time by rule", () => {
  const zone = (text: string): PosixTimeZone => {
    const parsed = parsePosixTimeZone(text);
    assert.ok(parsed !== undefined, text);
    return parsed;
  };
  assert.equal(offsetAt(zone("IST-5:30"), 0), 19_800);
  assert.equal(offsetAt(zone("<+0330>-3:30"), 0), 12_600);
  const berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3");
  const at = (iso: string): number => offsetAt(berlin, Date.parse(iso) / 1000);
  assert.equal(at("2026-03-29T00:59:59Z"), 3600);
  assert.equal(at("2026-03-29T01:00:00Z"), 7200);
  assert.equal(at("2026-10-25T00:59:59Z"), 7200);
  assert.equal(at("2026-10-25T01:00:00Z"), 3600);
  const sydney = zone("AEST-10AEDT,M10.1.0,M4.1.0/3");
  assert.equal(offsetAt(sydney, Date.parse("2026-01-01T00:00:00Z") / 1000), 39_600);
  assert.equal(offsetAt(sydney, Date.parse("2026-07-01T00:00:00Z") / 1000), 36_000);
  assert.equal(parsePosixTimeZone("Europe/Berlin"), undefined);
});
