// The market's clock: offers, slots and days go by it. It is `offset` milliseconds ahead of UTC.
export const DAY = 86_400_000;
export const weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const shifted = (ms: number, offset: number): Date => new Date(ms + offset);

export const marketDate = (ms: number, offset: number): string =>
  shifted(ms, offset).toLocaleDateString("en-US", { month: "short", day: "numeric", timeZone: "UTC" });
export const marketTime = (ms: number, offset: number): string => shifted(ms, offset).toISOString().slice(11, 16);
export const marketDateTime = (ms: number, offset: number): string => `${marketDate(ms, offset)}, ${marketTime(ms, offset)}`;
/** `2026-12-24`, as a date field holds it. */
export const marketDateField = (ms: number, offset: number): string => shifted(ms, offset).toISOString().slice(0, 10);

/** `UTC−05:00`. */
export function clockName(offset: number): string {
  const minutes = Math.round(Math.abs(offset) / 60_000);
  return minutes === 0 ? "UTC" : `UTC${offset < 0 ? "−" : "+"}${minuteText(minutes)}`;
}

/** Minute 1110 of a day is `18:30`. */
export const minuteText = (minute: number): string =>
  `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;

/** Reads `18`, `9:30` or `18:30`; `24:00` is 0. Null where it is no time of a day. */
export function parseMinute(text: string): number | null {
  const match = /^(\d{1,2})(?::(\d{2}))?$/.exec(text.trim());
  if (!match) return null;
  const hour = Number(match[1]), minute = Number(match[2] ?? 0);
  if (minute > 59 || hour > 24 || (hour === 24 && minute > 0)) return null;
  return (hour % 24) * 60 + minute;
}

/** The moment of a date (`2026-12-24`) and a minute on the market's clock; null where that is no date. */
export function marketMoment(date: string, minute: number, offset: number): number | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(date.trim());
  if (!match) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  const midnight = Date.UTC(year, month - 1, day);
  if (new Date(midnight).getUTCDate() !== day) return null;
  return midnight + minute * 60_000 - offset;
}

/** `every day`, `Mon–Fri` or `Mon, Wed`; Monday is bit 0. */
export function daysText(mask: number): string {
  if (mask === 127) return "every day";
  const on = weekdays.flatMap((_, day) => (mask & (1 << day) ? [day] : []));
  const first = on[0], last = on[on.length - 1];
  if (first === undefined || last === undefined) return "on no day";
  if (on.length > 2 && last - first === on.length - 1) return `${weekdays[first]}–${weekdays[last]}`;
  return on.map((day) => weekdays[day]).join(", ");
}
