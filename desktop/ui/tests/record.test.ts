import { expect, test } from "vitest";
import type { Report, ReportKind } from "../src/types";
import { add, lossCurve, MAX_LINES, nothing, progress, remaining, shares, smooth } from "../src/views/jobs/record";

const report = (rank: number, what: ReportKind, time = 0): Report => ({ time, rank, what });
const round = (rank: number, round: number, loss: number, time = round * 1000, epoch = 0): Report =>
  report(rank, { kind: "round", round, rounds: 100, epoch, loss, compute_ms: 700, exchange_ms: 200, wait_ms: 100 }, time);
const epoch = (epoch: number, accuracy: number | null, loss = 0.5): Report => report(0, { kind: "epoch", epoch, epochs: 5, accuracy, loss });
const log = (line: string): Report => report(1, { kind: "log", line });

test("reports are added without a change of what was there", () => {
  const before = add(nothing(), [round(0, 1, 2)]);
  const copy = structuredClone(before);
  add(before, [round(0, 2, 1), epoch(0, 0.9), log("x")]);
  expect(before).toEqual(copy);
});

test("it doesn't matter in how many portions reports come", () => {
  const reports = [log("a"), round(0, 1, 2), round(1, 1, 4), epoch(0, 0.9), round(0, 3, 1), log("b"), round(0, 2, 1.5), log("c")];
  const atOnce = add(nothing(), reports);
  expect(reports.reduce((record, one) => add(record, [one]), nothing())).toEqual(atOnce);
});

test("the curve is the mean over workers", () => {
  const record = add(nothing(), [round(0, 1, 2), round(1, 1, 4), round(0, 2, 1), round(1, 2, 2)]);
  expect(lossCurve(record)).toEqual({ rounds: [1, 2], losses: [3, 1.5] });
});

test("workers that report at other rounds share a step, and the one that reports more often doesn't count more", () => {
  const record = add(nothing(), [round(0, 1, 1), round(0, 2, 1), round(0, 3, 1), round(1, 4, 3)]);
  expect(lossCurve(record, 1)).toEqual({ rounds: [4], losses: [2] });
});

test("a curve has no more steps than asked for, in order", () => {
  const record = add(nothing(), Array.from({ length: 5000 }, (_, i) => round(0, i + 1, 1 / (i + 1))));
  const { rounds, losses } = lossCurve(record, 100);
  expect(rounds.length).toBe(100);
  expect(rounds.at(-1)).toBe(5000);
  expect(rounds.every((round, i) => i === 0 || round > rounds[i - 1]!)).toBe(true);
  expect(losses[0]!).toBeGreaterThan(losses[99]!);
});

test("smoothing keeps short curves and both ends", () => {
  expect(smooth([3, 1, 2])).toEqual([3, 1, 2]);
  const zigzag = Array.from({ length: 100 }, (_, i) => i % 2);
  const smoothed = smooth(zigzag);
  expect([smoothed[0], smoothed[99]]).toEqual([0, 1]);
  expect(Math.max(...smoothed.slice(10, 90)) - Math.min(...smoothed.slice(10, 90))).toBeLessThan(0.5);
});

test("training that goes back to a checkpoint takes back what came after it", () => {
  const record = add(nothing(), [
    round(0, 10, 1), round(1, 10, 1), epoch(0, 0.8), round(0, 20, 0.5, 20_000, 1), round(1, 21, 0.5, 20_000, 1), epoch(1, 0.9),
    round(0, 11, 0.9, 30_000, 1),
  ]);
  expect(record.losses.map((point) => point.round)).toEqual([10, 10, 11]);
  expect(record.epochs.map((point) => point.epoch)).toEqual([0]);
  expect(progress(record)).toEqual({ round: 11, rounds: 100, epoch: 1 });
  expect(record.since).toEqual({ time: 30_000, round: 11 });
});

test("the time left follows the pace", () => {
  expect(remaining(nothing())).toBe(null);
  expect(remaining(add(nothing(), [round(0, 1, 1, 1000)]))).toBe(null);
  expect(remaining(add(nothing(), [round(0, 1, 1, 1000), round(0, 51, 1, 101_000)]))).toBe(98_000);
});

test("a worker fetches until its first round", () => {
  const fetching = add(nothing(), [report(2, { kind: "fetching", done_bytes: 5, total_bytes: 10 })]);
  expect(fetching.workers[0]!.fetching).toEqual({ done: 5, total: 10 });
  expect(progress(fetching)).toBe(null);
  expect(add(fetching, [round(2, 1, 1)]).workers[0]!.fetching).toBe(null);
});

test("a loss that isn't finite crosses as null and is left out of the curve", () => {
  const record = add(nothing(), [round(0, 1, 2), round(0, 2, null as unknown as number)]);
  expect(record.losses.length).toBe(1);
  expect(record.workers[0]!.loss).toBe(null);
});

test("a worker's shares add up", () => {
  expect(shares(add(nothing(), [round(0, 1, 1)]).workers[0]!)).toEqual({ compute: 70, exchange: 20, wait: 10 });
  expect(shares(add(nothing(), [report(0, { kind: "fetching", done_bytes: 0, total_bytes: 1 })]).workers[0]!)).toBe(null);
});

test("log lines have keys that stay, and the oldest are let go", () => {
  const first = add(nothing(), Array.from({ length: MAX_LINES }, (_, i) => log(String(i))));
  const record = add(first, [log("last")]);
  expect(record.lines.length).toBe(MAX_LINES);
  expect(record.lines[0]!.text).toBe("1");
  expect(record.lines.at(-1)!.key).toBe(MAX_LINES);
});

test("a worker that takes over from a checkpoint takes back what was lost, and those who are gone", () => {
  const before = add(nothing(), [round(0, 10, 1, 10_000), epoch(0, 0.8), round(0, 60, 0.5, 60_000, 2), round(1, 60, 0.5, 60_500, 2), epoch(2, 0.9)]);
  const record = add(before, [round(2, 20, 0.7, 70_000, 1), round(3, 21, 0.7, 70_000, 1)]);
  expect(record.losses.map((point) => point.round)).toEqual([10, 20, 21]);
  expect(record.epochs.map((point) => point.epoch)).toEqual([0]);
  expect(record.workers.map((worker) => worker.rank)).toEqual([2, 3]);
  expect(remaining(add(record, [round(2, 30, 0.6, 80_000, 1)]))).toBe(70_000);
});

test("a new worker and one that reports late take nothing back", () => {
  const record = add(nothing(), [round(0, 59, 0.5, 59_000), round(0, 60, 0.5, 60_000), round(1, 59, 0.5, 59_500), round(2, 60, 0.4, 63_000)]);
  expect(record.losses.length).toBe(4);
  expect(record.workers.length).toBe(3);
});
