/** The file `every`: when a service that comes and goes is due, as an interval (`15m`, `1h30m`) or a cron line (`30 3 * * 1-5`). */
import { createRequire } from "node:module";

export interface Schedule {
  /** When the service is due next, milliseconds since 1970. `last`: when it was last started, undefined before the first time. */
  next(last: number | undefined, now: number): number;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const MAX_INTERVAL_MS = 366 * UNIT_MS["d"];

/** Milliseconds of `90`, `90s`, `1h30m`, `1d`; undefined when it is nothing of the kind or not between a second and a year. */
export function parseInterval(text: string): number | undefined {
  const number = /^[0-9]{1,9}$/.test(text);
  if (!number && !/^(?:[0-9]{1,9}[smhd]){1,4}$/.test(text)) return undefined;
  let ms = 0;
  if (number) ms = Number(text) * 1000;
  else for (const [, amount, unit] of text.matchAll(/([0-9]+)([smhd])/g)) ms += Number(amount) * UNIT_MS[unit];
  return ms >= 1000 && ms <= MAX_INTERVAL_MS ? ms : undefined;
}

/** Throws an Error that says what is wrong with the text. */
export function parseSchedule(text: string): Schedule {
  const interval = parseInterval(text);
  if (interval !== undefined) {
    return {
      next(last, now) {
        if (last === undefined || last > now) return now; // a clock that was set back must not stop it
        return last + interval;
      },
    };
  }
  if (text.split(/\s+/).length < 5 && !text.startsWith("@")) {
    throw new Error(`${JSON.stringify(text)} is neither an interval (45s, 15m, 1h30m, 1d) nor a cron line (minute hour day month weekday)`);
  }
  // Loaded only for those who have such a line.
  const { Cron } = createRequire(import.meta.url)("croner") as typeof import("croner");
  let cron: InstanceType<typeof Cron>;
  try {
    cron = new Cron(text, { paused: true });
  } catch (error) {
    throw new Error(`${JSON.stringify(text)} is no cron line: ${(error as Error).message.replace(/^CronPattern: /, "")}`);
  }
  if (cron.nextRun() === null) throw new Error(`${JSON.stringify(text)} never comes`);
  return { next: (_last, now) => cron.nextRun(new Date(now))?.getTime() ?? Number.POSITIVE_INFINITY };
}
