import { expect, test } from "vitest";
import { clause, greeting, joint } from "../src/views/dashboard/sentence";
import { byDay, chartDays, dayBegin, hours } from "../src/views/dashboard/days";
import { DAY } from "../src/lib/clock";
import type { Counts, Day } from "../src/types";

const none: Counts = { running: 0, waiting: 0, finished: 0, panic: 0 };
const said = (kind: "resource" | "job", counts: Counts): string | null => {
  const of = clause(kind, counts);
  if (!of) return null;
  return of.groups.map((group, at) => `${joint(at, of.groups.length)}${group.count}${at === 0 ? ` ${of.subject}` : ""} ${group.verb} ${group.state}`).join("");
};

test("the sentence says what isn't zero, in right grammar", () => {
  expect(said("resource", { ...none, running: 3, panic: 2 })).toBe("3 resources are running and 2 are in panic");
  expect(said("job", { ...none, finished: 14, running: 2, panic: 1 })).toBe("14 jobs are finished, 2 are running and 1 is in panic");
  expect(said("resource", { ...none, waiting: 1 })).toBe("1 resource is waiting for work");
  expect(said("job", { running: 1, waiting: 1, finished: 1, panic: 1 })).toBe("1 job is finished, 1 is running, 1 is waiting and 1 is in panic");
  expect(said("job", none)).toBeNull();
});

test("the greeting goes by the time of day", () => {
  expect([4, 5, 11, 12, 17, 18, 23].map(greeting)).toEqual([
    "Good evening", "Good morning", "Good morning", "Good afternoon", "Good afternoon", "Good evening", "Good evening",
  ]);
});

test("days are summed to the microcredit, and quiet days stay", () => {
  const today = dayBegin(Date.UTC(2026, 10, 25, 3), -5 * 3_600_000);
  expect(new Date(today).toISOString()).toBe("2026-11-24T05:00:00.000Z");
  const day = (ago: number, profit: boolean, credits: string): Day =>
    ({ day: 0, begins: today - ago * DAY, profit, id: "", name: "", hours: 1, credits, receipts: 1 });
  const sums = byDay([day(0, true, "1000001"), day(0, true, "2"), day(3, false, "9007199254740993"), day(30, true, "5"), day(-1, true, "5")], today);
  expect(sums).toHaveLength(chartDays);
  expect(sums.at(-1)).toEqual({ begins: today, profit: "1000003", cost: "0" });
  expect(sums.at(-4)).toEqual({ begins: today - 3 * DAY, profit: "0", cost: "9007199254740993" });
  expect(sums.filter((one) => one.profit === "0" && one.cost === "0")).toHaveLength(28);
});

test("hours are short and never nothing where there was something", () => {
  expect([0, 0.01, 0.44, 3, 12.25].map(hours)).toEqual(["0 h", "<0.1 h", "0.4 h", "3 h", "12.3 h"]);
});
