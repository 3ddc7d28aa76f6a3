// Jobs as `watch_job` tells them: a running one goes on by a timer.
import { send } from ".";
import { mnist } from "./job-file";
import { jobList } from "./jobs";
import type { Job, JobDetail, JobNews, Lease, Report } from "../types";

const ROUNDS = 1560, EPOCH = 312;
const machines = ["lab-7", "office", "robin-laptop", "render-box"];
const noise = (seed: number) => { const x = Math.sin(seed * 12.9898) * 43758.5453; return x - Math.floor(x); };
const lossAt = (round: number, rank: number) => 0.05 + 2.25 / (1 + round / 45) + (noise(round * 7 + rank) - 0.5) * 0.35 * (0.3 + 1 / (1 + round / 90));

/** What three workers tell of the rounds from `from` to `to`. */
export function reports(from: number, to: number, start: number, long = false): Report[] {
  const told: Report[] = [];
  for (let round = from; round <= to; round++) {
    const time = start + round * 240;
    for (const rank of [0, 1, 2]) {
      if ((round + rank) % 4 !== 0 && round !== to) continue;
      told.push({ time, rank, what: { kind: "round", round, rounds: ROUNDS, epoch: Math.floor((round - 1) / EPOCH), loss: lossAt(round, rank), compute_ms: round * (150 + rank * 20), exchange_ms: round * 46, wait_ms: round * (44 - rank * 20) } });
      if (long || round % 24 === 0) told.push({ time, rank, what: { kind: "log", line: `round ${round}: ${(760 + noise(round) * 90).toFixed(0)} samples/s${long && round % 50 === 0 ? ", and a line that somebody let grow far beyond what a window is wide, because a log may hold anything at all: " + "x".repeat(160) : ""}` } });
    }
    if (round % EPOCH === 0) {
      const epoch = round / EPOCH - 1;
      told.push({ time, rank: 0, what: { kind: "epoch", epoch, epochs: 5, accuracy: 0.991 - 0.07 / (epoch + 1) ** 1.6, loss: 0.03 + 0.2 / (epoch + 1) } });
      told.push({ time, rank: 0, what: { kind: "log", line: `epoch ${epoch + 1} of 5: the model is tried on 10,000 samples` } });
    }
  }
  return told;
}

function leasesOf(job: Job): Lease[] {
  if (job.started === null) return [];
  const open = job.ended === null;
  return machines.slice(0, job.state === "recovering" ? 4 : 3).map((machine_name, at): Lease => {
    const lost = job.state === "recovering" && at === 1;
    return { id: `${job.id}-lease-${at}`, rank: at === 3 ? 1 : at, machine: `dmm1q${at}352eufqy352eufqy352euf`, machine_name, state: lost ? "lost: no contact for 6 s" : open ? "active" : job.state === "panic" ? "failed" : "finished",
      training: open && !lost, rounds: 840 - at, samples: 53_760 - at * 64, receipts: lost ? 9 : 24, paid: String(BigInt(job.paid) / 3n), paid_ms: 212_000 };
  });
}

const detailOf = (job: Job): JobDetail => ({
  job, kind: "train", spec: mnist.replace('"mnist-cnn"', `"${job.name}"`), leases: leasesOf(job), result: job.state === "finished" ? "blake3:" + "7c0ffee1".repeat(8) : null,
  checkpoint_rounds: job.started === null ? null : 800, failures: job.state === "recovering" ? 1 : 0, epochs: 5,
});

/** Of the watches that run, by their channels. */
const timers = new Map<number, ReturnType<typeof setInterval>>();

export function watch(id: string, channel: { id: number }, state: string): void {
  const tell = (...news: JobNews[]) => send<JobNews>(channel, ...news);
  const job = jobList(state).find((one) => one.id === id) ?? { ...jobList("full")[0]!, id, name: "mnist-cnn", status: "Waits for the next block", budget: "20000000", escrow: "20000000" };
  let detail = detailOf(job);
  const start = job.started ?? Date.now();
  tell({ kind: "detail", value: detail });
  if (job.started !== null) {
    const fetched = [0, 1, 2].flatMap((rank): Report[] => [
      { time: start, rank, what: { kind: "log", line: "model built: 20,490 parameters" } },
      { time: start, rank, what: { kind: "fetching", done_bytes: 11_000_000, total_bytes: 15_700_000 } },
    ]);
    tell({ kind: "reports", value: fetched });
  }
  if (state === "offline") return tell({ kind: "reports", value: reports(1, 700, start) }, { kind: "trouble", value: "The gateway doesn't answer." });
  switch (job.state) {
    case "finished": return tell({ kind: "reports", value: reports(1, ROUNDS, start, state === "long") }, { kind: "end" });
    case "panic": {
      const last = reports(1, 31, start);
      const why: Report = { time: start + 8000, rank: 2, what: { kind: "log", line: "the loss is infinite" } };
      return tell({ kind: "reports", value: [...last, why] }, { kind: "end" });
    }
    case "recovering":
      return tell({ kind: "reports", value: [...reports(1, 820, start), { time: start + 200_000, rank: 1, what: { kind: "fetching", done_bytes: 4_200_000, total_bytes: 15_700_000 } }] });
    case "running": {
      let round = 840;
      tell({ kind: "reports", value: reports(1, round, start, state === "long") });
      timers.set(channel.id, setInterval(() => {
        const from = round + 1;
        round = Math.min(round + 4, ROUNDS);
        tell({ kind: "reports", value: reports(from, round, start) });
        if (round % 40 !== 0 && round < ROUNDS) return;
        const paid = String(212_564n + BigInt(round - 840) * 310n), escrow = String(20_000_000n - BigInt(paid));
        const done = round === ROUNDS;
        const now: Job = { ...job, paid, escrow: done ? "0" : escrow, ...(done ? { state: "finished", status: "Finished after 5 epochs", ended: Date.now(), workers: 0 } : {}) };
        detail = { ...detailOf(now), leases: leasesOf(now).map((lease) => ({ ...lease, rounds: round, samples: round * 64, receipts: Math.floor(round / 35) })) };
        tell({ kind: "detail", value: detail });
        if (done) { clearInterval(timers.get(channel.id)); tell({ kind: "end" }); }
      }, 1000));
      return;
    }
    default: if (job.ended !== null) tell({ kind: "end" });
  }
}

export function unwatch(watch: number): void {
  clearInterval(timers.get(watch));
  timers.delete(watch);
}
