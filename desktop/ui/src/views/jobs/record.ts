// What a job's reports add up to: curves, progress per worker, log lines. Pure: a record and reports give the next record.
import type { Report } from "../../types";

/** What a worker told last. Times are totals since its lease began. */
export interface WorkerRecord {
  rank: number;
  time: number;
  round: number;
  rounds: number;
  epoch: number;
  loss: number | null;
  compute_ms: number;
  exchange_ms: number;
  wait_ms: number;
  /** Set while it fetches data. */
  fetching: { done: number; total: number } | null;
}
export interface LossPoint { round: number; rank: number; loss: number }
/** `epoch` counts from 0, as in reports. */
export interface EpochPoint { epoch: number; accuracy: number | null; loss: number | null }
export interface LogLine { key: number; time: number; rank: number; text: string }
export interface JobRecord {
  /** By rank. */
  workers: WorkerRecord[];
  losses: LossPoint[];
  epochs: EpochPoint[];
  lines: LogLine[];
  /** Where the pace is measured from: the first round, or the first after training went back to a checkpoint. */
  since: { time: number; round: number } | null;
}

/** Workers train in step: one that is more rounds behind what another told this long before is of a new start. */
const SILENT_MS = 2_000;
/** Older lines are let go. */
export const MAX_LINES = 20_000;

export const nothing = (): JobRecord => ({ workers: [], losses: [], epochs: [], lines: [], since: null });

/** A number that isn't finite crosses as null. */
const finite = (value: number | null): number | null => (typeof value === "number" && Number.isFinite(value) ? value : null);

export function add(record: JobRecord, reports: Report[]): JobRecord {
  const next: JobRecord = { ...record, losses: [...record.losses], lines: [...record.lines] };
  const workers = new Map(record.workers.map((worker) => [worker.rank, worker]));
  const epochs = new Map(record.epochs.map((point) => [point.epoch, point]));
  let key = (record.lines.at(-1)?.key ?? -1) + 1;

  for (const { time, rank, what } of reports) {
    const worker = workers.get(rank) ?? fresh(rank);
    switch (what.kind) {
      case "fetching":
        workers.set(rank, { ...worker, time, fetching: { done: what.done_bytes, total: what.total_bytes } });
        break;
      case "round": {
        // A round that comes again, maybe from a worker that took over: training went on from a checkpoint, and what came after
        // it no longer counts.
        const gone = [...workers.values()].filter((other) => other.rank !== rank && other.time + SILENT_MS < time && other.round > what.round + 1);
        if (what.round < worker.round || gone.length > 0) {
          for (const other of gone) workers.delete(other.rank);
          next.losses = next.losses.filter((point) => point.round < what.round);
          for (const epoch of epochs.keys()) if (epoch >= what.epoch) epochs.delete(epoch);
          next.since = null;
        }
        next.since ??= { time, round: what.round };
        const loss = finite(what.loss);
        if (loss !== null) next.losses.push({ round: what.round, rank, loss });
        const { round, rounds, epoch, compute_ms, exchange_ms, wait_ms } = what;
        workers.set(rank, { rank, time, round, rounds, epoch, loss, compute_ms, exchange_ms, wait_ms, fetching: null });
        break;
      }
      case "epoch":
        epochs.set(what.epoch, { epoch: what.epoch, accuracy: finite(what.accuracy), loss: finite(what.loss) });
        break;
      case "log":
        next.lines.push({ key: key++, time, rank, text: what.line });
        break;
    }
  }

  next.workers = [...workers.values()].sort((a, b) => a.rank - b.rank);
  next.epochs = [...epochs.values()].sort((a, b) => a.epoch - b.epoch);
  if (next.lines.length > MAX_LINES) next.lines = next.lines.slice(-MAX_LINES);
  return next;
}

const fresh = (rank: number): WorkerRecord =>
  ({ rank, time: 0, round: 0, rounds: 0, epoch: 0, loss: null, compute_ms: 0, exchange_ms: 0, wait_ms: 0, fetching: null });

/** The training loss over rounds: the mean over workers in at most `limit` steps, smoothed. */
export function lossCurve(record: JobRecord, limit = 400): { rounds: number[]; losses: number[] } {
  const points = record.losses;
  if (points.length === 0) return { rounds: [], losses: [] };
  let last = 0;
  for (const { round } of points) last = Math.max(last, round);
  // Workers report every second or so, each at another round: a step is wide enough to hold a report of each.
  const ranks = new Set(points.map((point) => point.rank)).size;
  const width = Math.max(1, Math.ceil(last / limit), Math.round((last * ranks) / points.length));
  const steps = new Map<number, { round: number; ofRank: Map<number, number[]> }>();
  for (const { round, rank, loss } of points) {
    const at = Math.floor((round - 1) / width);
    let step = steps.get(at);
    if (!step) steps.set(at, (step = { round, ofRank: new Map() }));
    step.round = Math.max(step.round, round);
    const losses = step.ofRank.get(rank);
    if (losses) losses.push(loss);
    else step.ofRank.set(rank, [loss]);
  }
  const ordered = [...steps.values()].sort((a, b) => a.round - b.round);
  const means = ordered.map((step) => mean([...step.ofRank.values()].map(mean)));
  return { rounds: ordered.map((step) => step.round), losses: smooth(means) };
}

/** A moving mean, wider where there are more values; none below 50. */
export function smooth(values: number[]): number[] {
  const reach = Math.floor(values.length / 50);
  if (reach === 0) return values;
  return values.map((_, at) => {
    // As far to the left as to the right, so that the ends don't lean.
    const here = Math.min(reach, at, values.length - 1 - at);
    return mean(values.slice(at - here, at + here + 1));
  });
}

const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** How far the job is, by the worker that reported last; null before the first round. */
export function progress(record: JobRecord): { round: number; rounds: number; epoch: number } | null {
  let latest: WorkerRecord | null = null;
  for (const worker of record.workers) if (worker.rounds > 0 && (!latest || worker.time >= latest.time)) latest = worker;
  return latest && { round: latest.round, rounds: latest.rounds, epoch: latest.epoch };
}

/** Milliseconds to the last round at the pace so far; null where that can't be said yet. */
export function remaining(record: JobRecord): number | null {
  const at = progress(record);
  if (!at || !record.since) return null;
  const time = Math.max(...record.workers.map((worker) => worker.time));
  const done = at.round - record.since.round;
  return done > 0 ? ((time - record.since.time) / done) * (at.rounds - at.round) : null;
}

/** What a worker's time went into, in whole percent that add up to 100; null before it computed. */
export function shares(worker: WorkerRecord): { compute: number; exchange: number; wait: number } | null {
  const all = worker.compute_ms + worker.exchange_ms + worker.wait_ms;
  if (all === 0) return null;
  const exchange = Math.round((worker.exchange_ms / all) * 100), wait = Math.round((worker.wait_ms / all) * 100);
  return { compute: 100 - exchange - wait, exchange, wait };
}
