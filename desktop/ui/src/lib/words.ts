// Times, sizes and counts in words. Everything in the computer's own time zone unless it is said otherwise.
export function duration(ms: number): string {
  const s = Math.round(ms / 1000);
  if (s < 120) return `${s} s`;
  const min = Math.round(s / 60);
  if (min < 120) return `${min} min`;
  const h = Math.floor(min / 60);
  return h < 48 ? `${h} h ${min % 60} min` : `${Math.floor(h / 24)} d ${h % 24} h`;
}

export const date = (ms: number): string => new Date(ms).toLocaleDateString("en-US", { month: "short", day: "numeric" });
export const time = (ms: number): string =>
  new Date(ms).toLocaleTimeString("en-US", { hour: "2-digit", minute: "2-digit", hour12: false });
export const dateTime = (ms: number): string => `${date(ms)}, ${time(ms)}`;
export const exactTime = (ms: number): string => new Date(ms).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

export const mib = (count: number): string => bytes(count * 1024 * 1024);
/** `within 4 min`; empty where it is over. */
export const within = (until: number | null, now: number): string => (until !== null && until > now ? `within ${duration(until - now)}` : "");
/** `the gateway doesn't answer` → `The gateway doesn't answer`; an id in front stays as it is. */
export const sentence = (text: string): string => (/^(job|lease)-\d/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1));
export const plural = (count: number, one: string, many = one + "s"): string => `${count} ${count === 1 ? one : many}`;
export const percent = (share: number, decimals = 1): string => `${(share * 100).toFixed(decimals)} %`;
/** `dmm1qqqqqqqqqq…`: enough to tell ids apart; the whole one belongs into a title. */
export const short = (id: string): string => (id.length > 16 ? `${id.slice(0, 13)}…` : id);

/** The state of a job or a machine as a tone for its badge. */
export function toneOf(state: string): "good" | "info" | "warning" | "bad" | "plain" {
  switch (state) {
    case "running": case "in_use": return "info";
    case "finished": case "idle": return "good";
    case "queued": case "matched": case "recovering": case "draining": case "paused": return "warning";
    case "panic": return "bad";
    default: return "plain";
  }
}
export const stateName = (state: string): string => state.replace("_", " ");
