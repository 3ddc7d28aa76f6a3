// "3 resources are running and 2 are in panic": only what isn't zero, in right grammar.
import type { Counts } from "../../types";

export interface Clause { subject: string; groups: { count: number; verb: string; state: string }[] }

const words = {
  resource: { running: "running", waiting: "waiting for work", finished: "withdrawn", panic: "in panic" },
  job: { running: "running", waiting: "waiting", finished: "finished", panic: "in panic" },
};
const order = {
  resource: ["running", "waiting", "panic", "finished"],
  job: ["finished", "running", "waiting", "panic"],
} as const;

/** The groups of one kind; the first names the subject. Null where there are none. */
export function clause(kind: "resource" | "job", counts: Counts): Clause | null {
  const groups = order[kind]
    .filter((state) => counts[state] > 0)
    .map((state) => ({ count: counts[state], verb: counts[state] === 1 ? "is" : "are", state: words[kind][state] }));
  const first = groups[0];
  return first ? { subject: first.count === 1 ? kind : `${kind}s`, groups } : null;
}

/** What stands before the group at `at`: nothing, a comma or "and". */
export const joint = (at: number, count: number): string => (at === 0 ? "" : at === count - 1 ? " and " : ", ");

export function greeting(hour: number): string {
  if (hour >= 5 && hour < 12) return "Good morning";
  if (hour >= 12 && hour < 18) return "Good afternoon";
  return "Good evening";
}
