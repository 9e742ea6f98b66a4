/** C's struct tm as the interpreter sees it, for os.date and os.time. */

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const dayMs = 86_400_000;
/** Offsets of the fields: nine ints, then the offset from UTC in seconds. */
const field = { second: 0, minute: 4, hour: 8, day: 12, month: 16, year: 20, weekday: 24, yearDay: 28, daylight: 32, offset: 36 } as const;

/** Breaks seconds since 1970 down. */
export function writeTime(memory: DataView, at: number, seconds: number, utc: boolean): void {
  const date = new Date(seconds * 1000);
  // A local time is written as the UTC of another moment.
  const offset = utc ? 0 : -date.getTimezoneOffset() * 60;
  const shown = new Date((seconds + offset) * 1000);
  const set = (where: number, value: number): void => memory.setInt32(at + where, value, true);
  const year = shown.getUTCFullYear();
  set(field.second, shown.getUTCSeconds());
  set(field.minute, shown.getUTCMinutes());
  set(field.hour, shown.getUTCHours());
  set(field.day, shown.getUTCDate());
  set(field.month, shown.getUTCMonth());
  set(field.year, year - 1900);
  set(field.weekday, shown.getUTCDay());
  set(field.yearDay, Math.floor((shown.getTime() - Date.UTC(year, 0, 1)) / dayMs));
  set(field.daylight, utc || !isDaylight(date) ? 0 : 1);
  set(field.offset, offset);
}

function isDaylight(date: Date): boolean {
  const year = date.getFullYear();
  const winter = Math.max(new Date(year, 0, 1).getTimezoneOffset(), new Date(year, 6, 1).getTimezoneOffset());
  return date.getTimezoneOffset() < winter;
}

/** A local time as seconds since 1970; fields may be out of range (month 14). */
export function readTime(memory: DataView, at: number): number {
  const get = (where: number): number => memory.getInt32(at + where, true);
  const ms = new Date(get(field.year) + 1900, get(field.month), get(field.day), get(field.hour), get(field.minute), get(field.second)).getTime();
  return Number.isNaN(ms) ? -1 : Math.floor(ms / 1000);
}

/** strftime in the C locale. */
export function formatTime(format: string, memory: DataView, at: number): string {
  const get = (where: number): number => memory.getInt32(at + where, true);
  const pad = (value: number, width = 2, fill = "0"): string => String(value).padStart(width, fill);
  const hour = get(field.hour);
  const year = get(field.year) + 1900;
  const weekday = get(field.weekday);
  const yearDay = get(field.yearDay);
  const offset = get(field.offset) / 60;
  const iso = isoWeek(year, yearDay, weekday);
  const one = (conversion: string): string => {
    switch (conversion) {
      case "a":
        return (days[weekday] ?? "?").slice(0, 3);
      case "A":
        return days[weekday] ?? "?";
      case "b":
      case "h":
        return (months[get(field.month)] ?? "?").slice(0, 3);
      case "B":
        return months[get(field.month)] ?? "?";
      case "c":
        return all("%a %b %e %H:%M:%S %Y");
      case "C":
        return pad(Math.floor(year / 100));
      case "d":
        return pad(get(field.day));
      case "D":
      case "x":
        return all("%m/%d/%y");
      case "e":
        return pad(get(field.day), 2, " ");
      case "F":
        return all("%Y-%m-%d");
      case "g":
        return pad(iso.year % 100);
      case "G":
        return String(iso.year);
      case "H":
        return pad(hour);
      case "I":
        return pad(hour % 12 === 0 ? 12 : hour % 12);
      case "j":
        return pad(yearDay + 1, 3);
      case "m":
        return pad(get(field.month) + 1);
      case "M":
        return pad(get(field.minute));
      case "n":
        return "\n";
      case "p":
        return hour < 12 ? "AM" : "PM";
      case "r":
        return all("%I:%M:%S %p");
      case "R":
        return all("%H:%M");
      case "s":
        return String(readTime(memory, at));
      case "S":
        return pad(get(field.second));
      case "t":
        return "\t";
      case "T":
      case "X":
        return all("%H:%M:%S");
      case "u":
        return String(weekday === 0 ? 7 : weekday);
      case "U":
        return pad(Math.floor((yearDay + 7 - weekday) / 7));
      case "V":
        return pad(iso.week);
      case "w":
        return String(weekday);
      case "W":
        return pad(Math.floor((yearDay + 7 - ((weekday + 6) % 7)) / 7));
      case "y":
        return pad(year % 100);
      case "Y":
        return String(year);
      case "z":
        return `${offset < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(offset) / 60))}${pad(Math.abs(offset) % 60)}`;
      case "Z":
        return offset === 0 ? "GMT" : "";
      default:
        return conversion;
    }
  };
  const all = (text: string): string => text.replace(/%[EO]?([\s\S])/g, (_whole, conversion: string) => one(conversion));
  return all(format);
}

/** The week that holds the year's first Thursday is its first. */
function isoWeek(year: number, yearDay: number, weekday: number): { readonly year: number; readonly week: number } {
  const day = weekday === 0 ? 7 : weekday;
  const week = Math.floor((yearDay + 1 - day + 10) / 7);
  if (week < 1) return { year: year - 1, week: weeksOf(year - 1) };
  if (week > weeksOf(year)) return { year: year + 1, week: 1 };
  return { year, week };
}

function weeksOf(year: number): number {
  const first = new Date(Date.UTC(year, 0, 1)).getUTCDay();
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return first === 4 || (leap && first === 3) ? 53 : 52;
}
