import { failure, never, type Answers, type State } from ".";
import { answers as jobs } from "./jobs";
import type { Entry, HistoryPage, ReceiptView, Statement, StatementLine, Transaction } from "../types";

const now = Date.UTC(2026, 10, 25, 19, 20);
const machines = ["dmm1q8352eufqy352eufqy352eufqy352eufq8c4xq0", "dmm1qz352eufqy352eufqy352eufqy352eufq8c4xq7"];
const friend = "dm1qz7352eufqy352eufqy352eufqy352eufqyc4x";
const hash = (seed: number) => Array.from({ length: 8 }, (_, i) => ((seed * 2654435761 + i * 40503) >>> 0).toString(16).padStart(8, "0")).join("");
const nobody = { transaction: null, job: null, machine: null, lease: null, receipt: null, account: null, audit: null };

/** A history whose purses end at 42.25 granted and 18.937512 earned, newest first. */
function made(count: number): Entry[] {
  const purses: Record<string, bigint> = { granted: 0n, earned: 0n };
  const entries: Entry[] = [];
  const post = (purse: string, amount: bigint, cause: string, why: string, more: Partial<Entry>) => {
    purses[purse] = purses[purse]! + amount;
    const at = entries.length;
    entries.push({ ...nobody, height: 20 + at * 3, index: at % 4, time: now - (count + 4 - at) * 640_000, incoming: amount > 0n, amount: String(amount < 0n ? -amount : amount), purse, balance: String(purses[purse]), why, cause, ...more });
  };
  post("granted", 50_000_000n, "starting_credits", "starting credits", { transaction: hash(1) });
  if (count === 0) return entries;
  post("granted", -20_000_000n, "escrow", "escrow of job-3", { transaction: hash(2), job: "job-3" });
  post("granted", 12_250_000n, "refund", "left of the escrow of job-3", { job: "job-3" });
  for (let i = 0; i < count; i++) {
    const job = `job-${20 + (i % 37)}`;
    if (i % 9 === 8 && purses.earned! > 6_000_000n) post("earned", -5_500_000n, "transfer_to", `to ${friend}`, { transaction: hash(i + 10), account: friend });
    else post("earned", BigInt(137_512 + (i * 7_919) % 900_000), "payout", `work for ${job}: receipt ${i + 1} of lease-${i % 50}`, { transaction: hash(i + 10), job, machine: machines[i % 2]!, lease: `lease-${i % 50}`, receipt: i + 1 });
  }
  post("earned", 4_120n, "audit", "computing audit-96 again", { audit: "audit-96" });
  const rest = 18_937_512n - purses.earned!;
  post("earned", rest, rest > 0n ? "transfer_from" : "transfer_to", rest > 0n ? `from ${friend}` : `to ${friend}`, { transaction: hash(5), account: friend });
  return entries.reverse();
}

const known = new Map<State, Entry[]>();
function entriesOf(state: State): Entry[] {
  if (!known.has(state)) known.set(state, made(state === "empty" ? 0 : state === "long" ? 9_996 : 140));
  return known.get(state)!;
}

function page(before: { height: number; index: number } | null, limit: number, state: State): HistoryPage {
  const all = entriesOf(state);
  const from = before ? all.findIndex((entry) => entry.height === before.height && entry.index === before.index) + 1 : 0;
  const entries = all.slice(from, from + limit);
  const last = entries.at(-1);
  return { entries, next: last && from + limit < all.length ? { height: last.height, index: last.index } : null };
}

function statement(state: State): Statement {
  const lines = new Map<string, StatementLine>();
  for (const entry of entriesOf(state)) {
    const id = entry.cause === "payout" ? entry.machine : (entry.account ?? entry.job);
    const cause = entry.cause === "audit" ? "audits" : entry.cause === "payout" ? "machine" : entry.account ? "account" : entry.job ? "job" : "starting_credits";
    const name = cause === "machine" ? (id === machines[0] ? "lab-7" : "office") : cause === "job" ? "mnist-cnn" : cause === "audits" ? "Audits" : (id ?? "Starting credits");
    const line = lines.get(`${cause} ${id}`) ?? { cause, id, name, incoming: "0", outgoing: "0", entries: 0 };
    const side = entry.incoming ? "incoming" : "outgoing";
    line[side] = String(BigInt(line[side]) + BigInt(entry.amount));
    line.entries++;
    lines.set(`${cause} ${id}`, line);
  }
  return { height: 1834, granted: state === "empty" ? "50000000" : "42250000", earned: state === "empty" ? "0" : "18937512", lines: [...lines.values()], balanced: true };
}

function transaction(id: string, state: State): Transaction {
  const entry = entriesOf(state).find((one) => one.transaction === id);
  const action = { payout: "receipt", escrow: "borrow", starting_credits: "open_account" }[entry?.cause ?? ""] ?? "transfer";
  const bodies: Record<string, unknown> = {
    receipt: { job: entry?.job, lease: entry?.lease, rank: 1, sequence: entry?.receipt, from: 0, rounds: 420, samples: 26_880, cpu_ms: 171_400, parameters: hash(77), commitments: hash(78), loss_micro: 312_450, checkpoint: null, missing: null, outcome: "running" },
    borrow: { spec: Array.from({ length: 90 }, (_, i) => (i * 37) % 256) },
    open_account: { voucher: { identity: hash(4), expires: 1_795_700_000_000 } },
    transfer: { to: friend, amount: Number(entry?.amount ?? 1_500_000) },
  };
  const signer = "8f2c".padEnd(64, "61d9b0");
  const rejected = id.endsWith("bad");
  const json = { id, height: entry?.height ?? 1834, code: 0, transaction: { version: 1, body: { signer, nonce: 12, expires: 2100, action: { [action]: bodies[action] } }, signature: "a7".repeat(64) } };
  return { id, height: entry?.height ?? 1834, time: entry?.time ?? now, action, signer, nonce: 12, code: rejected ? 2003 : 0, message: rejected ? "the account doesn't hold that much" : "", json: JSON.stringify(json, null, 2), block: hash(99), signers: 4 };
}

function receipt(entry: Entry): ReceiptView {
  return { job: entry.job!, lease: entry.lease!, number: entry.receipt!, machine: entry.machine!, height: entry.height, time: entry.time, transaction: entry.transaction, rounds: 420, samples: 26_880, paid_ms: 60_000, payout: entry.amount };
}

/** Waits in `loading`, fails in `error`, else answers a little later. */
function answered<T>(state: State, answer: () => T, ms = 150): Promise<T> {
  if (state === "loading") return never();
  return new Promise((resolve, reject) => setTimeout(() => (state === "error" ? reject(failure) : resolve(answer())), ms));
}

export const answers: Answers = {
  history: ({ before, limit }, state) => answered(state, () => page(before, limit, state)),
  export_history: (_, state) => answered(state, () => entriesOf(state).length),
  transaction: ({ id }, state) => answered(state, () => transaction(id, state)),
  receipts: (args, state) => {
    const mine = entriesOf(state).filter((entry) => entry.job === args.job && entry.cause === "payout");
    return mine.length > 0 ? answered(state, () => mine.map(receipt)) : jobs.receipts!(args, state);
  },
  "plugin:dialog|open": ({ options }) => (options?.directory ? "/home/sam/data/letters" : "/home/sam/sam.json"),
  "plugin:dialog|save": ({ options }) => `/home/sam/${options?.defaultPath ?? "file"}`,
  statement: (_, state) => answered(state, () => statement(state)),
  transfer: (_, state) => answered(state, () => hash(5), 900),
};
