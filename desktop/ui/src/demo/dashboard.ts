// What is told as it happens, in each state; the dashboard shows most of it.
import { failure, never, send, type Answers } from ".";
import { jobList, prices } from "./jobs";
import { machineList, node } from "./resources";
import type { Day, Live, Overview } from "../types";

const DAY = 86_400_000;
const offset = prices.utc_offset_ms;
const today = Math.floor((Date.now() + offset) / DAY) * DAY - offset;

/** A machine or a job of day `ago`, with amounts that look alive. */
function entry(ago: number, which: number, profit: boolean): Day {
  const machine = machineList("long")[[1, 4, 0, 2, 3, 5][which] ?? which]!;
  const job = [["job-417", "mnist-cnn"], ["job-416", "resnet-small"], ["job-411", "mnist-cnn"], ["job-412", "regression"]][ago % 4]!;
  const weight = 1 + ((ago * 7 + which * 5) % 9);
  return {
    day: Math.floor(today / DAY) - ago, begins: today - ago * DAY, profit,
    id: profit ? machine.id : which > 0 ? `job-${400 - ago - which}` : job[0]!,
    name: profit ? machine.name : which > 3 ? "a-job-with-a-name-that-is-longer-than-the-column-in-which-it-stands" : job[1]!,
    hours: weight * 0.37, credits: String(137_512 * weight + which * 1_001), receipts: 4 * weight,
  };
}

function days(state: string): Day[] {
  const perDay = state === "long" ? 15 : 2;
  return Array.from({ length: 30 }, (_, ago) => [
    ...Array.from({ length: ago % 6 === 4 ? 0 : perDay }, (_, which) => entry(ago, which, true)),
    ...Array.from({ length: ago % 4 === 1 ? 0 : Math.max(1, perDay - 1) }, (_, which) => entry(ago, which, false)),
  ]).flat();
}

const none = { running: 0, waiting: 0, finished: 0, panic: 0 };
const nothing: Overview = {
  granted: "50000000", earned: "0", escrow: "0", held: "0", vests: null, available: "50000000",
  jobs: none, machines: none, profit: "0", cost: "0", days: [], reliability: 500, audits_passed: 0, strikes: 0, barred: false,
};

export function overview(state: string): Overview {
  if (state === "empty") return nothing;
  const long = state === "long";
  return {
    granted: "42250000", earned: long ? "81234518937512" : "18937512", escrow: "20000000", held: "1250000", vests: Date.now() + 34 * 60_000,
    available: long ? "81234561187512" : "61187512",
    jobs: long ? { running: 212, waiting: 31, finished: 10_421, panic: 87 } : { running: 2, waiting: 0, finished: 14, panic: 1 },
    machines: long ? { running: 104, waiting: 21, finished: 60, panic: 9 } : { running: 3, waiting: 0, finished: 0, panic: 2 },
    profit: "30120000", cost: "20400000", days: days(state), reliability: 970, audits_passed: long ? 4_812 : 57, strikes: long ? 2 : 0, barred: false,
  };
}

export const answers: Answers = {
  watch: ({ channel }, state) => {
    if (state === "loading") return never();
    if (state === "error") throw failure;
    const online = state !== "offline";
    const connection = (height: number): Live =>
      ({ kind: "connection", value: { online, gateway: "http://127.0.0.1:8600", height, time: Date.now(), error: online ? null : failure.message } });
    send<Live>(channel,
      connection(1834),
      { kind: "prices", value: prices },
      { kind: "overview", value: overview(state) },
      { kind: "machines", value: machineList(state) },
      { kind: "jobs", value: jobList(state) },
      { kind: "node", value: node(state) });
    let height = 1834;
    if (online) setInterval(() => send(channel, connection(++height)), 2000);
    return null;
  },
};
