import { expect, test } from "vitest";
import type { Job, Prices, SlotPrice } from "../src/types";
import { chosen } from "../src/views/jobs/list/filter";
import { against } from "../src/views/jobs/prices";

const slot = (core_hour: string): SlotPrice => ({ name: "", core_hour, ram_gib_hour: "0", gpu_hour: "0", disk_gib_hour: "0" });

test("slots are compared with the current one", () => {
  const prices: Prices = { current_slot: 1, slot_ends: 0, utc_offset_ms: 0, slots: ["770000", "1000000", "1154999", "999999"].map(slot) };
  expect(prices.slots.map((one) => against(prices, one).text)).toEqual(["−23 %", "the same", "+15 %", "the same"]);
  expect(prices.slots.map((one) => against(prices, one).cheaper)).toEqual([true, false, false, false]);
});

test("jobs are found by every word that was typed, in name, id, state and reason", () => {
  const job = (name: string, state: string, status: string) => ({ id: "job-" + name, name, state, status }) as Job;
  const jobs = [job("mnist", "running", "Trains"), job("lstm", "panic", "Aborted: budget"), job("mnist2", "queued", "Waits for a slot")];
  const names = (...args: [Parameters<typeof chosen>[1], string]) => chosen(jobs, ...args).map((one) => one.name);
  expect(names("all", "")).toEqual(["mnist", "lstm", "mnist2"]);
  expect(names("open", "mnist")).toEqual(["mnist", "mnist2"]);
  expect(names("closed", "")).toEqual(["lstm"]);
  expect(names("all", "MNIST slot")).toEqual(["mnist2"]);
});
