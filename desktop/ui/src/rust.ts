// The one file that calls Rust. Every failure is a `CommandError`.
import { Channel, invoke } from "@tauri-apps/api/core";
import { open, save } from "@tauri-apps/plugin-dialog";
import type {
  Dataset, Evaluation, HistoryPage, ImportProgress, Invite, JobCheck, JobFields, JobNews, Live, Market, Measured, Offer,
  Place, Preset, ReceiptView, SavedResult, Session, Settings, Start, Statement, Transaction, Verification, WordAnswer,
} from "./types";

/** A channel whose messages go to `tell`. */
function channel<T>(tell: (message: T) => void): Channel<T> {
  const channel = new Channel<T>();
  channel.onmessage = tell;
  return channel;
}

// Start, market, account.
export const start = () => invoke<Start>("start");
/** Asks a gateway which market it is of; without one the local market. Remembers nothing. */
export const findMarket = (gateway: string | null) => invoke<Market>("find_market", { gateway });
/** Uses and remembers the market that `findMarket` showed. */
export const chooseMarket = (gateway: string, chain: string) => invoke<Market>("choose_market", { gateway, chain });
/** Makes a new key and gives its 24 recovery words. The key waits in Rust until `createAccount`. */
export const newWords = () => invoke<string[]>("new_words");
/** Checks the words that were asked back, writes the key file, gets a voucher for the identity and opens the account. */
export const createAccount = (name: string, identity: string, password: string, answers: WordAnswer[]) =>
  invoke<Session>("create_account", { name, identity, password, answers });
/** Writes a key file from 24 words. `session.open` tells whether the market knows the account. */
export const restoreAccount = (name: string, words: string, password: string) =>
  invoke<Session>("restore_account", { name, words, password });
/** Imports a key file: PLUTO's own (its password is needed) or the command line's. */
export const importKey = (path: string, filePassword: string, name: string, password: string) =>
  invoke<Session>("import_key", { path, filePassword, name, password });
/** Opens the unlocked account on this market with an identity. */
export const openAccount = (identity: string) => invoke<Session>("open_account", { identity });
export const unlock = (name: string, password: string) => invoke<Session>("unlock", { name, password });
export const lock = () => invoke<void>("lock");
/** Tells that somebody is there: the automatic lock begins to count anew. */
export const stillHere = () => invoke<void>("still_here");
export const changePassword = (oldPassword: string, newPassword: string) =>
  invoke<void>("change_password", { oldPassword, newPassword });
/** The recovery words of the unlocked account, for its password. */
export const showWords = (password: string) => invoke<string[]>("show_words", { password });
/** Writes a copy of the encrypted key file. */
export const exportKey = (path: string) => invoke<void>("export_key", { path });
export const setSettings = (settings: Settings) => invoke<void>("set_settings", { settings });
/** Tells everything as it is, then as it changes, until the wallet is locked. */
export const watch = (tell: (live: Live) => void) => invoke<void>("watch", { channel: channel(tell) });

// Account.
export const history = (before: Place | null, limit: number) => invoke<HistoryPage>("history", { before, limit });
/** Writes the whole history; gives the number of entries. */
export const exportHistory = (path: string) => invoke<number>("export_history", { path });
export const transaction = (id: string) => invoke<Transaction>("transaction", { id });
/** What other machines computed again of a job's work, and what they found. */
export const verification = (job: string) => invoke<Verification>("verification", { job });
export const receipts = (job: string) => invoke<ReceiptView[]>("receipts", { job });
export const statement = () => invoke<Statement>("statement");
/** Sends earned credits; `amount` as typed, for example `1.5`. Gives the transaction's id. */
export const transfer = (to: string, amount: string) => invoke<string>("transfer", { to, amount });

// Machines.
/** The last measurement of this computer. */
export const lastMeasured = () => invoke<Measured | null>("last_measured");
/** Measures this computer: takes some seconds. */
export const verify = () => invoke<Measured>("verify");
/** Is the offer legitimate, what would it earn? Of this computer, or of one of the account's machines. */
export const evaluate = (offer: Offer, machine: string | null) => invoke<Evaluation>("evaluate", { offer, machine });
/** Lends this computer: starts its compute node. Gives the machine's id. */
export const lend = (offer: Offer) => invoke<string>("lend", { offer });
/** Starts the compute node of this computer again. */
export const startNode = () => invoke<void>("start_node");
/** Stops it and ends the offer. */
export const stopNode = () => invoke<void>("stop_node");
/** Ends running leases at once and takes no more, until a moment (or until `resume`). */
export const pause = (until: number | null) => invoke<void>("pause", { until });
export const resume = () => invoke<void>("resume");
/** A one-time code for a remote machine; what is offered of it as soon as it joins. */
export const invite = (offer: Offer | null, hours: number) => invoke<Invite>("invite", { offer, hours });
/** Lends a remote machine over SSH, as long as PLUTO runs. */
export const lendOverSsh = (target: string, identityFile: string | null, program: string, offer: Offer) =>
  invoke<void>("lend_over_ssh", { target, identityFile, program, offer });
export const stopSsh = (target: string) => invoke<void>("stop_ssh", { target });
export const changeOffer = (machine: string, offer: Offer, atOnce: boolean) =>
  invoke<void>("change_offer", { machine, offer, atOnce });
export const withdraw = (machine: string, atOnce: boolean) => invoke<void>("withdraw", { machine, atOnce });

// Jobs.
export const presets = () => invoke<Preset[]>("presets");
export const datasets = () => invoke<Dataset[]>("datasets");
export const importDataset = (path: string, name: string, tell: (progress: ImportProgress) => void) =>
  invoke<Dataset>("import_dataset", { path, name, channel: channel(tell) });
/** Reads a job file, finds what is wrong with it, and quotes it. */
export const checkJob = (toml: string) => invoke<JobCheck>("check_job", { toml });
/** The job file with these fields; comments and everything else stay. */
export const editJob = (toml: string, fields: JobFields) => invoke<string>("edit_job", { toml, fields });
/** Signs and submits. Gives the job's id. */
export const submitJob = (toml: string) => invoke<string>("submit_job", { toml });
export const cancelJob = (job: string) => invoke<void>("cancel_job", { job });
/** Tells a job's past and then what happens. `stop` ends the telling. */
export function watchJob(job: string, tell: (news: JobNews) => void): { stop: () => void; failed: Promise<void> } {
  let listening = true;
  const told = channel<JobNews>((news) => listening && tell(news));
  const failed = invoke<void>("watch_job", { job, channel: told });
  return { stop: () => { listening = false; void invoke("unwatch_job", { watch: told.id }); }, failed };
}
/** Fetches a job's result into a folder; evaluates the model on this computer where asked for. */
export const saveResult = (job: string, folder: string, evaluate: boolean) =>
  invoke<SavedResult>("save_result", { job, folder, evaluate });
/** Fetches the model to a temporary place and evaluates it on this computer. */
export const evaluateResult = (job: string) => invoke<SavedResult>("evaluate_result", { job });

// Native dialogs.
export const askFolder = (title: string) => open({ title, directory: true }) as Promise<string | null>;
export const askFile = (title: string) => open({ title }) as Promise<string | null>;
export const askSaveAs = (title: string, defaultPath: string) => save({ title, defaultPath });

