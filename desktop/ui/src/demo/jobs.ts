import type { Answers } from ".";
import type { Job, Prices } from "../types";
import { jobCommands } from "./job-commands";

const MINUTE = 60_000, HOUR = 60 * MINUTE;
const now = Date.now();
const ago = (minutes: number) => now - minutes * MINUTE;

const queued: Job = { id: "job-418", name: "char-transformer", state: "queued", status: "Waits: its cap of 4 credits would not cover it now; from 18:00 on it would", submitted: ago(12), started: null, ended: null, budget: "4000000", escrow: "4000000", paid: "0", fees: "0", workers: 0 };
const running: Job = { id: "job-417", name: "mnist-cnn", state: "running", status: "Trains on 3 machines", submitted: ago(5), started: ago(4), ended: null, budget: "20000000", escrow: "19787436", paid: "212564", fees: "12753", workers: 3 };
const recovering: Job = { id: "job-416", name: "resnet-small", state: "recovering", status: "A worker was lost; 2 others go on from the checkpoint of round 400", submitted: ago(95), started: ago(94), ended: null, budget: "60000000", escrow: "57219875", paid: "2780125", fees: "166807", workers: 2 };
const panicked: Job = { id: "job-412", name: "regression", state: "panic", status: "Aborted: the loss became infinite in round 31 on two machines. Try a smaller learning rate", submitted: ago(60 * 26), started: ago(60 * 26 - 1), ended: ago(60 * 26 - 3), budget: "5000000", escrow: "0", paid: "38112", fees: "2286", workers: 0 };
const finished: Job = { id: "job-411", name: "mnist-cnn", state: "finished", status: "Finished after 5 epochs", submitted: ago(60 * 30), started: ago(60 * 30 - 1), ended: ago(60 * 30 - 9), budget: "20000000", escrow: "0", paid: "487250", fees: "29235", workers: 0 };
const cancelled: Job = { id: "job-409", name: "lstm", state: "cancelled", status: "Cancelled by you before it started", submitted: ago(60 * 50), started: null, ended: ago(60 * 49), budget: "10000000", escrow: "0", paid: "0", fees: "0", workers: 0 };

const many = (): Job[] =>
  Array.from({ length: 600 }, (_, i): Job => {
    const base = [finished, cancelled, panicked][i % 3]!;
    const submitted = ago(60 * (60 + i * 7));
    const started = base.started === null ? null : submitted + MINUTE;
    return { ...base, id: `job-${408 - i}`, submitted, started, ended: submitted + (4 + (i % 50)) * MINUTE,
      name: i % 40 === 0 ? "a-job-whose-name-is-as-long-as-somebody-may-want-to-type-it-with-everything-in-it-that-there-is-to-say" : base.name };
  });

export const jobList = (state: string): Job[] =>
  state === "empty" ? [] : [queued, running, recovering, panicked, finished, cancelled, ...(state === "long" ? many() : [])];

// The market is where it is just after three in the afternoon, so that there is something cheaper to wait for.
const hours = 15 - new Date(now).getUTCHours();
const offset = (hours > 12 ? hours - 24 : hours) * HOUR;

export const prices: Prices = {
  current_slot: 2,
  slot_ends: now - (now % HOUR) + 3 * HOUR,
  utc_offset_ms: offset,
  slots: [
    { name: "00-06", core_hour: "612000", gpu_hour: "8160000", ram_gib_hour: "204000", disk_gib_hour: "2040" },
    { name: "06-12", core_hour: "981500", gpu_hour: "11778000", ram_gib_hour: "294450", disk_gib_hour: "2944" },
    { name: "12-18", core_hour: "1236000", gpu_hour: "15450000", ram_gib_hour: "360500", disk_gib_hour: "3605" },
    { name: "18-24", core_hour: "800000", gpu_hour: "10000000", ram_gib_hour: "250000", disk_gib_hour: "2500" },
  ],
};

export const answers: Answers = jobCommands;
