import { failure, never, send, type Answers } from ".";
import type { Day, Live, Overview } from "../types";

const DAY = 86_400_000;
const today = Date.UTC(2026, 10, 25);

function days(count: number): Day[] {
  return Array.from({ length: count }, (_, i): Day => {
    const profit = i % 3 !== 1;
    return { day: 20_782 - i, begins: today - i * DAY, profit, id: profit ? `dmm1q8${i % 4}352eufqy352eufqy352euf` : `job-${400 - i}`,
      name: profit ? ["lab-7", "office", "robin-laptop", "render-box"][i % 4]! : ["mnist-cnn", "char-transformer", "regression"][i % 3]!,
      hours: 0.4 + (i % 7), credits: String(137_500 * (1 + (i % 9))), receipts: 12 + i };
  });
}

export const overview = (state: string): Overview => ({
  granted: "42250000", earned: state === "empty" ? "0" : "18937512", escrow: state === "empty" ? "0" : "20000000", held: "0",
  available: state === "empty" ? "50000000" : "61187512",
  jobs: state === "empty" ? { running: 0, waiting: 0, finished: 0, panic: 0 } : { running: 2, waiting: 1, finished: 14, panic: 1 },
  machines: state === "empty" ? { running: 0, waiting: 0, finished: 0, panic: 0 } : { running: 3, waiting: 2, finished: 0, panic: 2 },
  profit: state === "empty" ? "0" : "30120000", cost: state === "empty" ? "0" : "20400000",
  days: state === "empty" ? [] : days(state === "long" ? 900 : 26), reliability: 970,
});

export const answers: Answers = {
  watch: ({ channel }, state) => {
    if (state === "loading") return never();
    if (state === "error") throw failure;
    const online = state !== "offline";
    send<Live>(channel,
      { kind: "connection", value: { online, gateway: "http://127.0.0.1:8600", height: 1834, time: Date.now(), error: online ? null : failure.message } },
      { kind: "overview", value: overview(state) });
    return null;
  },
};
