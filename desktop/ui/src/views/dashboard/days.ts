// Days for the chart: 30 of them to today, with those on which nothing happened.
import { sum } from "../../lib/money";
import { DAY } from "../../lib/clock";
import type { Day } from "../../types";

export interface DaySum { begins: number; profit: string; cost: string }

export const chartDays = 30;

/** Profit and cost of each of the last 30 days, oldest first; `today` is when the market's day began. */
export function byDay(days: Day[], today: number): DaySum[] {
  const sums = Array.from({ length: chartDays }, (_, at): DaySum => ({ begins: today - (chartDays - 1 - at) * DAY, profit: "0", cost: "0" }));
  for (const day of days) {
    const one = sums[chartDays - 1 - Math.round((today - day.begins) / DAY)];
    if (!one) continue;
    if (day.profit) one.profit = sum(one.profit, day.credits);
    else one.cost = sum(one.cost, day.credits);
  }
  return sums;
}

/** When the market's day of `now` began. */
export const dayBegin = (now: number, offset: number): number => Math.floor((now + offset) / DAY) * DAY - offset;

/** `3 h`, `0.4 h`, `<0.1 h`. */
export function hours(count: number): string {
  if (count > 0 && count < 0.05) return "<0.1 h";
  return `${count.toFixed(1).replace(/\.0$/, "")} h`;
}
