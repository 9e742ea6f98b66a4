/** Points in time as people write them. */

import { timeOf } from "../supervise/inspect/stamps.ts";
import type { Time } from "../supervise/tai64n.ts";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, sec: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** `10m` and `1h 30m` ago; a time of day today (yesterday when it is yet to come); a local date, with or without time; ISO with a zone. */
export function parseSince(text: string, now: Date): Time | undefined {
  const word = text.trim();
  if (/^(?:\d+(?:\.\d+)? ?(?:ms|sec|s|min|m|h|d|w) ?)+(?:ago)?$/.test(word)) {
    let ms = 0;
    for (const [, count, unit] of word.matchAll(/(\d+(?:\.\d+)?) ?(ms|sec|s|min|m|h|d|w)/g)) ms += Number(count) * UNIT_MS[unit];
    return checked(new Date(now.getTime() - ms));
  }
  const clock = /^(\d{1,2}):(\d\d)(?::(\d\d))?$/.exec(word);
  if (clock !== null) {
    const [hours, minutes, seconds] = [Number(clock[1]), Number(clock[2]), Number(clock[3] ?? 0)];
    if (hours > 23 || minutes > 59 || seconds > 59) return undefined;
    const day = now.getDate();
    const at = new Date(now.getFullYear(), now.getMonth(), day, hours, minutes, seconds);
    return checked(at > now ? new Date(now.getFullYear(), now.getMonth(), day - 1, hours, minutes, seconds) : at);
  }
  const date = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:?\d\d)?)?$/.exec(word);
  if (date === null) return undefined;
  return checked(new Date(`${date[1]}T${date[2] ?? "00:00"}${date[3] ?? ""}`));
}

function checked(date: Date): Time | undefined {
  return Number.isNaN(date.getTime()) ? undefined : timeOf(date);
}
