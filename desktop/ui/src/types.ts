// Generated from desktop/src/view.rs: `make pluto-types` writes it again.

/**
 * Why a command failed, and what to do.
 */
export type CommandError = { 
/**
 * Stable number: 1xxx form, 2xxx ledger, 3xxx jobs, 4xxx mempool, 5xxx gateway, 6xxx worker, 7xxx wallet; 0 without one.
 */
code: number, 
/**
 * What is wrong.
 */
message: string, 
/**
 * What to do; empty where nothing can be done.
 */
hint: string, 
/**
 * May the same succeed later, without a change?
 */
retryable: boolean, };

/**
 * Everything that the page needs to begin.
 */
export type Start = { 
/**
 * The market that was chosen last.
 */
market: Market | null, 
/**
 * A local market (`deepmarket up`) that runs on this computer, by its gateway.
 */
local: string | null, 
/**
 * Key files on this computer.
 */
accounts: Array<KnownAccount>, 
/**
 * The unlocked account.
 */
session: Session | null, 
/**
 * What the user set.
 */
settings: Settings, 
/**
 * The release.
 */
version: string, };

/**
 * A market as its gateway shows it.
 */
export type Market = { 
/**
 * The gateway's address.
 */
gateway: string, 
/**
 * The market's name.
 */
name: string, 
/**
 * The genesis document's hash: this is the market, whatever its address.
 */
chain: string, 
/**
 * How many validators run it.
 */
validators: number, 
/**
 * The latest block.
 */
height: number, 
/**
 * Was exactly this market used before?
 */
known: boolean, 
/**
 * The market that answered at this address before, where it was another one: a reason for caution.
 */
was: string | null, };

/**
 * A key file on this computer.
 */
export type KnownAccount = { 
/**
 * The name on this computer.
 */
name: string, 
/**
 * The account's id.
 */
id: string, };

/**
 * The unlocked account.
 */
export type Session = { 
/**
 * The name on this computer.
 */
name: string, 
/**
 * The account's id.
 */
id: string, 
/**
 * Its public key.
 */
key: string, 
/**
 * Is it open on this market? If not it must be opened with an identity.
 */
open: boolean, };

/**
 * A word of the recovery words that is asked back.
 */
export type WordAnswer = { 
/**
 * Its place, from 0.
 */
place: number, 
/**
 * What was typed.
 */
word: string, };

/**
 * What the user set. Kept on this computer.
 */
export type Settings = { 
/**
 * `system`, `light` or `dark`.
 */
theme: Theme, 
/**
 * Locks after so many minutes without a click or key; 0 never.
 */
lock_minutes: number, 
/**
 * Are amounts hidden?
 */
hide_amounts: boolean, 
/**
 * Native notifications.
 */
notify: boolean, };

export type Theme = "system" | "light" | "dark";

/**
 * Told on the channel of `watch`, first everything as it is, then what changes.
 */
export type Live = { "kind": "connection", "value": Connection } | { "kind": "overview", "value": Overview } | { "kind": "machines", "value": Array<Machine> } | { "kind": "jobs", "value": Array<Job> } | { "kind": "prices", "value": Prices } | { "kind": "node", "value": Node } | { "kind": "notice", "value": Notice } | { "kind": "locked" };

/**
 * How the connection to the market is.
 */
export type Connection = { 
/**
 * Does a gateway answer?
 */
online: boolean, 
/**
 * The gateway that answered last.
 */
gateway: string, 
/**
 * The latest block.
 */
height: number, 
/**
 * The market's clock at that block.
 */
time: number, 
/**
 * Why there is no connection.
 */
error: string | null, };

/**
 * A job ended, a machine panics, credits arrived, a connection is back.
 */
export type Notice = { tone: Tone, title: string, text: string, };

export type Tone = "good" | "info" | "warning" | "bad";

export type Overview = { 
/**
 * Starting credits left.
 */
granted: string, 
/**
 * Earned credits.
 */
earned: string, 
/**
 * In the escrows of jobs.
 */
escrow: string, 
/**
 * Earned and held back until it vests.
 */
held: string, 
/**
 * When the last of that vests, if no audit is open then and none finds anything.
 */
vests: number | null, 
/**
 * `granted + earned`: what can be spent.
 */
available: string, jobs: Counts, machines: Counts, 
/**
 * What the machines may earn in the next 24 hours.
 */
profit: string, 
/**
 * What the open jobs may cost in the next 24 hours.
 */
cost: string, 
/**
 * The last 30 days, newest first.
 */
days: Array<Day>, 
/**
 * How reliable the account's machines were, in thousandths.
 */
reliability: number, 
/**
 * Audits that found their work right.
 */
audits_passed: number, 
/**
 * Their receipts and answers that were false.
 */
strikes: number, 
/**
 * So many strikes that they take no work any more.
 */
barred: boolean, };

/**
 * Jobs or machines by how they stand.
 */
export type Counts = { 
/**
 * Jobs that train; machines that work.
 */
running: number, 
/**
 * Jobs that wait; machines that are on offer without work.
 */
waiting: number, 
/**
 * Finished or cancelled jobs; withdrawn machines.
 */
finished: number, 
/**
 * Aborted jobs; machines out of contact.
 */
panic: number, };

/**
 * What one machine earned or one job cost on one day.
 */
export type Day = { 
/**
 * The market's day number.
 */
day: number, 
/**
 * When that day began.
 */
begins: number, 
/**
 * Is it profit of a machine (or the cost of a job)?
 */
profit: boolean, 
/**
 * The machine's or the job's id.
 */
id: string, name: string, 
/**
 * Hours that were paid for, of all leases together.
 */
hours: number, credits: string, receipts: number, };

/**
 * An entry of the account's history.
 */
export type Entry = { height: number, index: number, time: number, 
/**
 * The transaction that caused it; none for what happens at a block's end.
 */
transaction: string | null, incoming: boolean, amount: string, 
/**
 * `granted` or `earned`.
 */
purse: string, 
/**
 * What the purse held afterwards.
 */
balance: string, 
/**
 * Why, in words.
 */
why: string, 
/**
 * `starting_credits`, `transfer_from`, `transfer_to`, `escrow`, `refund`, `payout`, `audit` or `forfeit`.
 */
cause: string, job: string | null, machine: string | null, lease: string | null, 
/**
 * The receipt's number within its lease.
 */
receipt: number | null, account: string | null, audit: string | null, };

/**
 * A page of the history, newest first.
 */
export type HistoryPage = { entries: Array<Entry>, 
/**
 * Where the next page begins; none at the end.
 */
next: Place | null, };

export type Place = { height: number, index: number, };

/**
 * A transaction, down to what the chain holds of it.
 */
export type Transaction = { id: string, height: number | null, time: number | null, 
/**
 * What it does, for example `receipt`.
 */
action: string, 
/**
 * The key that signed it.
 */
signer: string, nonce: number, 
/**
 * 0, or why it was rejected.
 */
code: number, message: string, 
/**
 * All of it, as indented JSON.
 */
json: string, block: string | null, 
/**
 * Validators that signed the block's certificate.
 */
signers: number, };

/**
 * A receipt as the chain accepted it.
 */
export type ReceiptView = { job: string, lease: string, number: number, machine: string, height: number, time: number, transaction: string | null, rounds: number, samples: number, paid_ms: number, payout: string, };

/**
 * Why the balance is what it is.
 */
export type Statement = { height: number, granted: string, earned: string, lines: Array<StatementLine>, 
/**
 * Do the lines add up to the balance?
 */
balanced: boolean, };

export type StatementLine = { 
/**
 * `starting_credits`, `account`, `job`, `machine` or `audits`.
 */
cause: string, 
/**
 * The account's, job's or machine's id.
 */
id: string | null, name: string, incoming: string, outgoing: string, entries: number, };

/**
 * Today's prices.
 */
export type Prices = { current_slot: number, 
/**
 * When the current slot ends.
 */
slot_ends: number, 
/**
 * The market's clock ahead of UTC, in milliseconds.
 */
utc_offset_ms: number, slots: Array<SlotPrice>, };

export type SlotPrice = { 
/**
 * For example `06-12`.
 */
name: string, core_hour: string, gpu_hour: string, ram_gib_hour: string, disk_gib_hour: string, };

/**
 * What was measured of a machine.
 */
export type Measured = { name: string, platform: string, cpu: string, gpu: string, resources: Resources, 
/**
 * Million multiply-adds a second of one core.
 */
speed: number, 
/**
 * When.
 */
measured: number, };

export type Resources = { cores: number, gpus: number, ram_mib: number, disk_mib: number, };

/**
 * What is offered of a machine.
 */
export type Offer = { resources: Resources, 
/**
 * Minutes of the market's day; both none for the whole day. `from` after `to` goes over midnight.
 */
from_minute: number | null, to_minute: number | null, 
/**
 * Monday is bit 0; 127 is every day.
 */
weekdays: number, 
/**
 * The offer's end.
 */
until: number | null, 
/**
 * The least unit prices.
 */
min_core_hour: string, min_gpu_hour: string, min_ram_gib_hour: string, min_disk_gib_hour: string, 
/**
 * Do running leases end with the hours (or go on to their end)?
 */
ends_leases: boolean, };

/**
 * What an offer would earn.
 */
export type Evaluation = { 
/**
 * Why it would be refused; none where it is legitimate.
 */
refused: string | null, slots: Array<SlotEarning>, 
/**
 * If all that is offered is used all the time, over the four slots.
 */
full: string, 
/**
 * At the usual use of each slot.
 */
expected: string, };

export type SlotEarning = { slot: number, name: string, begins: number, open_ms: number, core_hour: string, reaches_minimum: boolean, utilisation_permille: number, full: string, expected: string, };

/**
 * One of the account's machines.
 */
export type Machine = { id: string, name: string, 
/**
 * Is it this computer, lent from this wallet?
 */
here: boolean, platform: string, cpu: string, gpu: string, resources: Resources, speed: number, 
/**
 * `withdrawn`, `idle`, `in_use`, `paused`, `draining` or `panic`.
 */
state: string, 
/**
 * Why, in words.
 */
reason: string, offer: Offer | null, 
/**
 * A change that waits for running leases.
 */
pending: Offer | null, used: Resources, reliability: number, leases_finished: number, leases_lost: number, leases: Array<string>, earned: string, 
/**
 * Earned and held back until it vests.
 */
held: string, 
/**
 * When the last of that vests, if no audit is open then and none finds anything.
 */
vests: number | null, 
/**
 * The audit for which it computes another's round.
 */
auditing: string | null, 
/**
 * Paused from this wallet: until when (0: until it is taken up by hand).
 */
paused_until: number | null, };

/**
 * An invitation of a remote machine.
 */
export type Invite = { code: string, expires: number, 
/**
 * What to type over there.
 */
command: string, 
/**
 * Is the market on this computer only, so that a remote machine doesn't reach it?
 */
loopback: boolean, };

/**
 * The compute node of this computer, or one that was started over SSH.
 */
export type Node = { 
/**
 * Is its process running?
 */
running: boolean, 
/**
 * Since when.
 */
since: number | null, 
/**
 * Its machine on the market.
 */
machine: string | null, 
/**
 * Of one core, in percent, of the node and its trainers.
 */
cpu_percent: number, 
/**
 * Resident memory of the node and its trainers.
 */
ram_mib: number, 
/**
 * The jobs that it works for now.
 */
jobs: Array<string>, 
/**
 * Earned since it was started here.
 */
earned: string, 
/**
 * The last lines that it printed.
 */
log: Array<string>, 
/**
 * Why it ended, where it ended by itself.
 */
error: string | null, 
/**
 * That this computer is lent, but not by this account on this market.
 */
elsewhere: string | null, 
/**
 * Machines that are lent over SSH from here, by target, with the last line that each printed.
 */
remote: Array<RemoteNode>, };

export type RemoteNode = { target: string, running: boolean, line: string, };

/**
 * A job in the list.
 */
export type Job = { id: string, name: string, 
/**
 * `queued`, `matched`, `running`, `recovering`, `finished`, `cancelled` or `panic`.
 */
state: string, 
/**
 * How it stands and why, in words.
 */
status: string, submitted: number, started: number | null, ended: number | null, budget: string, escrow: string, paid: string, 
/**
 * What audits cost on top of that.
 */
fees: string, 
/**
 * Workers that train now.
 */
workers: number, };

/**
 * A job's page.
 */
export type JobDetail = { job: Job, 
/**
 * `train`, `evaluate` or `predict`.
 */
kind: string, 
/**
 * Its spec as TOML.
 */
spec: string, leases: Array<Lease>, 
/**
 * The result's blob, once finished.
 */
result: string | null, 
/**
 * Rounds in the last checkpoint, where one is stored.
 */
checkpoint_rounds: number | null, failures: number, epochs: number, };

/**
 * One worker of a job.
 */
export type Lease = { id: string, rank: number, machine: string, machine_name: string, 
/**
 * `active`, `finished`, `failed`, `lost` or `ended`, in words.
 */
state: string, training: boolean, rounds: number, samples: number, receipts: number, paid: string, paid_ms: number, };

/**
 * What is known about a job's work: what other machines computed again, and what they found.
 */
export type Verification = { 
/**
 * So many of a thousand receipts are audited at least; 0: none is.
 */
audit_permille: number, 
/**
 * What was found, in a sentence.
 */
summary: string, 
/**
 * Can it still change?
 */
open: boolean, 
/**
 * Receipts with rounds that can be audited.
 */
windows: number, 
/**
 * Those of them that were drawn.
 */
audited: number, 
/**
 * Their draw is still to come.
 */
undrawn: number, passed: number, 
/**
 * Found false.
 */
wrong: number, 
/**
 * Not shown by the worker.
 */
silent: number, 
/**
 * Nobody could say.
 */
void: number, going_on: number, 
/**
 * Paid for audits.
 */
fees: string, 
/**
 * Of the pay: held until it vests.
 */
held: string, vests: number | null, 
/**
 * Of the pay: lost by the lenders.
 */
forfeited: string, 
/**
 * All audits, newest first.
 */
audits: Array<Audit>, };

/**
 * One round that is computed again.
 */
export type Audit = { id: string, lease: string, rank: number, 
/**
 * The audited receipt's number.
 */
receipt: number, 
/**
 * The audited round, counted from 1; none until the worker opened it.
 */
round: number | null, 
/**
 * `open`, `passed`, `false`, `silent` or `void`.
 */
verdict: string, 
/**
 * How it stands, in words.
 */
status: string, drawn: number, 
/**
 * The machines that compute, or computed, it again.
 */
auditors: Array<AuditMachine>, };

export type AuditMachine = { machine: string, 
/**
 * What it found, in a word; `computes` until it says.
 */
found: string, };

/**
 * Told on the channel of `watch_job`: what is known first, then as it comes.
 */
export type JobNews = { "kind": "detail", "value": JobDetail } | { "kind": "reports", "value": Array<Report> } | { "kind": "trouble", "value": string } | { "kind": "end" };

/**
 * A worker's report.
 */
export type Report = { time: number, rank: number, what: ReportKind, };

/**
 * What is reported. Epochs are counted from 0: where `epoch + 1` is `epochs` it is the last one.
 */
export type ReportKind = { "kind": "fetching", done_bytes: number, total_bytes: number, } | { "kind": "round", round: number, rounds: number, epoch: number, loss: number, compute_ms: number, exchange_ms: number, wait_ms: number, } | { "kind": "epoch", epoch: number, epochs: number, accuracy: number | null, loss: number, } | { "kind": "log", line: string, };

/**
 * A ready job that can be started from.
 */
export type Preset = { id: string, title: string, about: string, toml: string, 
/**
 * The dataset's name in it.
 */
dataset: string, };

/**
 * A dataset that was imported here.
 */
export type Dataset = { name: string, manifest: string, splits: Array<Split>, bytes: number, };

export type Split = { name: string, samples: number, };

/**
 * Told on the channel of `import_dataset`.
 */
export type ImportProgress = { 
/**
 * `cutting shards` or `storing shards`.
 */
step: string, done_bytes: number, 
/**
 * 0 where it isn't known yet.
 */
total_bytes: number, };

/**
 * The fields of a job file that the form edits. The file is the truth: they are read from it and written into it.
 */
export type JobFields = { name: string, dataset: string, workers_min: number, workers_max: number, cores: number, ram_mib: number, 
/**
 * Names of slots in which it may start; none for any.
 */
slots: Array<string>, 
/**
 * The cap in credits, as typed: `20` or `0.5`.
 */
max_credits: string, 
/**
 * 0 where the job doesn't train.
 */
epochs: number, };

/**
 * A job file, looked at.
 */
export type JobCheck = { 
/**
 * What is wrong with it; empty where it can be submitted.
 */
problems: Array<SpecProblem>, 
/**
 * None where the text isn't even TOML.
 */
fields: JobFields | null, quote: Quote | null, 
/**
 * Why there is no quote although the file is fine, for example no connection.
 */
quote_error: CommandError | null, };

export type SpecProblem = { 
/**
 * From 1; none where it is about the whole.
 */
line: number | null, message: string, };

export type Quote = { 
/**
 * Workers that would start now.
 */
workers: number, 
/**
 * Machines on offer that are large enough.
 */
machines: number, 
/**
 * Are there enough for its minimum?
 */
enough: boolean, expected_start: number | null, expected_ms: number | null, expected_cost: string, 
/**
 * What is put into escrow: the most that it can cost.
 */
budget: string, 
/**
 * Does the budget cover the expected cost?
 */
covered: boolean, current_slot: number, parameters: number, ram_mib: number, 
/**
 * So many of a thousand receipts would be audited at least; 0: none.
 */
audit_permille: number, 
/**
 * What that costs, in thousandths of the workers' pay. All costs include it.
 */
fee_permille: number, slots: Array<SlotQuote>, };

export type SlotQuote = { slot: number, name: string, begins: number, allowed: boolean, workers: number, enough: boolean, cost_per_hour: string, expected_cost: string, };

/**
 * A job's result on this computer.
 */
export type SavedResult = { folder: string, files: Array<string>, 
/**
 * Share of right answers, computed here, where it was asked for.
 */
accuracy: number | null, loss: number | null, };
