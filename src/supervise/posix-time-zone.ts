/** Time zones as POSIX spells them in TZ, like `IST-5:30` or `CET-1CEST,M3.5.0,M10.5.0/3`: Node knows only the names of the zone database. */

interface Rule {
  /** M: month, week, weekday; J: day 1..365 without 29 February; N: day 0..365. */
  readonly kind: "M" | "J" | "N";
  readonly numbers: readonly number[];
  /** Seconds after local midnight. */
  readonly at: number;
}

export interface PosixTimeZone {
  /** Seconds east of Greenwich. */
  readonly standard: number;
  readonly summer?: { readonly offset: number; readonly start: Rule; readonly end: Rule };
}

const NAME = "(?:[A-Za-z]{3,16}|<[A-Za-z0-9+-]{1,16}>)";
const OFFSET = "([+-]?[0-9]{1,3}(?::[0-9]{2}){0,2})";
const ZONE = new RegExp(`^:?${NAME}${OFFSET}(?:(${NAME})${OFFSET}?(?:,([^,]{1,24}),([^,]{1,24}))?)?$`);
const RULE = /^(?:M([0-9]{1,2})\.([1-5])\.([0-6])|J([0-9]{1,3})|([0-9]{1,3}))(?:\/([+-]?[0-9]{1,3}(?::[0-9]{2}){0,2}))?$/;
const DAY = 86_400;

function seconds(text: string): number {
  const [hours, minutes = "0", rest = "0"] = text.replace(/^[+-]/, "").split(":");
  const value = Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
  return text.startsWith("-") ? -value : value;
}

function parseRule(text: string): Rule | undefined {
  const found = RULE.exec(text);
  if (found === null) return undefined;
  const at = found[6] === undefined ? 7200 : seconds(found[6]);
  if (found[1] !== undefined) return { kind: "M", numbers: [Number(found[1]), Number(found[2]), Number(found[3])], at };
  if (found[4] !== undefined) return { kind: "J", numbers: [Number(found[4])], at };
  return { kind: "N", numbers: [Number(found[5])], at };
}

/** Undefined when the text is no such specification. */
export function parsePosixTimeZone(text: string): PosixTimeZone | undefined {
  const found = ZONE.exec(text);
  if (found === null) return undefined;
  const standard = -seconds(found[1]);
  if (found[2] === undefined) return { standard };
  // Without rules those of the United States are meant.
  const start = parseRule(found[4] ?? "M3.2.0");
  const end = parseRule(found[5] ?? "M11.1.0");
  if (start === undefined || end === undefined) return undefined;
  return { standard, summer: { offset: found[3] === undefined ? standard + 3600 : -seconds(found[3]), start, end } };
}

/** Seconds since 1970, as if local time were UTC, at which the rule strikes in the year. */
function strikes(rule: Rule, year: number): number {
  const newYear = Date.UTC(year, 0, 1) / 1000;
  if (rule.kind === "N") return newYear + rule.numbers[0] * DAY + rule.at;
  if (rule.kind === "J") {
    const isLeap = Date.UTC(year, 1, 29) !== Date.UTC(year, 2, 1);
    return newYear + (rule.numbers[0] - 1 + (isLeap && rule.numbers[0] >= 60 ? 1 : 0)) * DAY + rule.at;
  }
  const [month, week, weekday] = rule.numbers;
  const first = new Date(Date.UTC(year, month - 1, 1));
  let day = 1 + ((weekday - first.getUTCDay() + 7) % 7) + (week - 1) * 7;
  const length = new Date(Date.UTC(year, month, 0)).getUTCDate();
  if (day > length) day -= 7;
  return Date.UTC(year, month - 1, day) / 1000 + rule.at;
}

/** Seconds east of Greenwich at a Unix time. */
export function offsetAt(zone: PosixTimeZone, unixSeconds: number): number {
  const { standard, summer } = zone;
  if (summer === undefined) return standard;
  const year = new Date((unixSeconds + standard) * 1000).getUTCFullYear();
  const start = strikes(summer.start, year) - standard;
  const end = strikes(summer.end, year) - summer.offset;
  const isSummer = start < end ? unixSeconds >= start && unixSeconds < end : unixSeconds >= start || unixSeconds < end;
  return isSummer ? summer.offset : standard;
}
