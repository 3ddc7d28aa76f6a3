import { beforeEach, describe, expect, it, vi } from "vitest";
import { facts } from "../src/lib/transaction";
import type { Entry, HistoryPage, Place, Transaction } from "../src/types";
import { lineName } from "../src/views/account/causes";
import { finder } from "../src/views/account/search";
import { amountProblem, toProblem } from "../src/views/account/transfer.svelte";

const rust = vi.hoisted(() => ({ history: vi.fn<(before: Place | null, limit: number) => Promise<HistoryPage>>() }));
vi.mock("../src/rust", () => rust);
const { app } = await import("../src/lib/live.svelte");
const { more, past, refresh } = await import("../src/views/account/history.svelte");

const entry = (height: number, changed: Partial<Entry> = {}): Entry => ({
  height, index: 0, time: 0, transaction: null, incoming: true, amount: "1", purse: "earned", balance: "1", why: "receipt 1 of lease-4",
  cause: "payout", job: null, machine: null, lease: null, receipt: null, account: null, audit: null, ...changed,
});

describe("searching the history", () => {
  const work = entry(1, { job: "job-31", lease: "lease-4", transaction: "blake3:abcd" });
  it("finds words of the reason, of its name, and parts of ids", () => {
    for (const query of ["", "RECEIPT", "paid work", "abcd", "earned receipt", "job-31", "block 1"]) expect(finder(query)(work), query).toBe(true);
  });
  it("wants every word, and whole numbers of jobs", () => {
    for (const query of ["receipt granted", "job-3", "lease-44", "escrow"]) expect(finder(query)(work), query).toBe(false);
  });
});

describe("the history", () => {
  let chain: Entry[];
  beforeEach(() => {
    chain = Array.from({ length: 1200 }, (_, i) => entry(1200 - i));
    app.session = { name: "sam", id: `dm1${Math.random()}`, key: "", open: true };
    rust.history.mockImplementation(async (before, limit) => {
      const from = before ? chain.findIndex((one) => one.height === before.height) + 1 : 0;
      const entries = chain.slice(from, from + limit);
      const last = entries.at(-1)!;
      return { entries, next: from + limit < chain.length ? { height: last.height, index: last.index } : null };
    });
  });
  it("comes page by page, each entry once", async () => {
    await refresh();
    while (past.next) await more();
    await more();
    expect(past.entries.map((one) => one.height)).toEqual(chain.map((one) => one.height));
  });
  it("gets what is new in front, without fetching again what is known", async () => {
    await refresh();
    await more();
    chain.unshift(entry(1202), entry(1201));
    await refresh();
    expect(past.entries.slice(0, 3).map((one) => one.height)).toEqual([1202, 1201, 1200]);
    expect(past.entries.length).toBe(1002);
  });
  it("begins anew where too much happened meanwhile, and for another account", async () => {
    await refresh();
    chain.unshift(...Array.from({ length: 600 }, (_, i) => entry(1800 - i)));
    await refresh();
    expect(past.entries.length).toBe(500);
    app.session = { name: "robin", id: "dm1robin", key: "", open: true };
    chain = [entry(5)];
    await refresh();
    expect(past.entries).toEqual(chain);
  });
  it("keeps what it has when a page fails, and goes on later", async () => {
    await refresh();
    rust.history.mockRejectedValueOnce({ code: 5001, message: "no answer", hint: "", retryable: true });
    await more();
    expect([past.entries.length, past.loading, (past.error as { code: number }).code]).toEqual([500, false, 5001]);
    await more();
    expect([past.entries.length, past.error]).toEqual([1000, null]);
  });
});

describe("a transfer", () => {
  const id = "dm1" + "q".repeat(38);
  it("goes to another account's id", () => {
    expect(toProblem(id, "dm1own")).toBeNull();
    for (const bad of ["", "dm1", id + "q", id.replace("q", "b"), "dmm1" + "q".repeat(38)]) expect(toProblem(bad, "dm1own"), bad).not.toBeNull();
    expect(toProblem(id, id)).toContain("own");
  });
  it("is of something, and of what was earned", () => {
    expect(amountProblem("1.5", "1500000")).toBeNull();
    for (const bad of ["", "0", "0.000", "1,5", "1.500001"]) expect(amountProblem(bad, "1500000"), bad).not.toBeNull();
  });
});

describe("what a transaction does", () => {
  const transaction = (action: string, json: unknown): Transaction => ({
    id: "x", height: 1, time: 1, action, signer: "k", nonce: 0, code: 0, message: "", json: JSON.stringify(json), block: null, signers: 4,
  });
  it("is read from its JSON, wherever the action is", () => {
    const action = { transfer: { to: "dm1" + "q".repeat(38), amount: 1_500_000 } };
    const expected = [{ label: "to", value: "dm1" + "q".repeat(38), kind: "id" }, { label: "amount", value: "1500000", kind: "amount" }];
    expect(facts(transaction("transfer", { action }))).toEqual(expected);
    expect(facts(transaction("transfer", { transaction: { body: { action } } }))).toEqual(expected);
  });
  it("has units, and leaves out what is long", () => {
    const action = { receipt: { job: "job-3", cpu_ms: 3_000, loss_micro: 312_450, checkpoint: null, spec: [1, 2] } };
    expect(facts(transaction("receipt", { body: { action } })).map(({ label, value }) => `${label}: ${value}`)).toEqual(["job: job-3", "CPU time: 3 s", "loss: 0.312450"]);
  });
  it("is nothing where the JSON isn't understood", () => {
    expect(facts({ ...transaction("transfer", {}), json: "{" })).toEqual([]);
    expect(facts(transaction("heartbeat", { body: { action: { heartbeat: { addresses: null } } } }))).toEqual([]);
  });
});

describe("a statement's line", () => {
  const line = (cause: string, name: string) => lineName({ cause, id: null, name, incoming: "0", outgoing: "0", entries: 1 });
  it("says what it is about", () => {
    expect([line("starting_credits", ""), line("job", "mnist"), line("machine", "lab-7"), line("account", "dm1qqqqqqqqqqqqqqqqqq")]).toEqual([
      "Starting credits", "Job mnist", "Work of lab-7", "Transfers with dm1qqqqqqqqqq…",
    ]);
  });
});
