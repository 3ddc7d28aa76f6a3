//! What the page is told and what it tells: the only types that cross the border. `ui/src/types.ts` is generated from them.
//!
//! Amounts are decimal texts of microcredits (`"1500000"` is 1.5 credits), times are milliseconds since 1970 in UTC, ids are
//! the texts that the chain uses. No secret is among them but the recovery words, once, when an account is made.

use serde::{Deserialize, Serialize};

/// Microcredits in decimal digits.
pub type Amount = String;

/// Gives each type what crossing needs, and its TypeScript.
macro_rules! view {
    ($($(#[$attribute:meta])* pub $kind:ident $name:ident $body:tt)*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(test, derive(ts_rs::TS))]
            $(#[$attribute])*
            pub $kind $name $body
        )*

        /// The TypeScript of all types, in one text.
        #[cfg(test)]
        fn typescript() -> String {
            let config = ts_rs::Config::new().with_large_int("number");
            let types = [$((stringify!($name), <$name as ts_rs::TS>::decl(&config), <$name as ts_rs::TS>::docs())),*];
            let mut text = "// Generated from desktop/src/view.rs: `make pluto-types` writes it again.\n".to_owned();
            for (_, declaration, docs) in types {
                text += &format!("\n{}export {declaration}\n", docs.unwrap_or_default());
            }
            text
        }
    };
}

view! {
    // ---- errors, start, market, account ----

    /// Why a command failed, and what to do.
    pub struct CommandError {
        /// Stable number: 1xxx form, 2xxx ledger, 3xxx jobs, 4xxx mempool, 5xxx gateway, 6xxx worker, 7xxx wallet; 0 without one.
        pub code: u16,
        /// What is wrong.
        pub message: String,
        /// What to do; empty where nothing can be done.
        pub hint: String,
        /// May the same succeed later, without a change?
        pub retryable: bool,
    }

    /// Everything that the page needs to begin.
    pub struct Start {
        /// The market that was chosen last.
        pub market: Option<Market>,
        /// A local market (`deepmarket up`) that runs on this computer, by its gateway.
        pub local: Option<String>,
        /// Key files on this computer.
        pub accounts: Vec<KnownAccount>,
        /// The unlocked account.
        pub session: Option<Session>,
        /// What the user set.
        pub settings: Settings,
        /// The release.
        pub version: String,
    }

    /// A market as its gateway shows it.
    pub struct Market {
        /// The gateway's address.
        pub gateway: String,
        /// The market's name.
        pub name: String,
        /// The genesis document's hash: this is the market, whatever its address.
        pub chain: String,
        /// How many validators run it.
        pub validators: u32,
        /// The latest block.
        pub height: u64,
        /// Was exactly this market used before?
        pub known: bool,
        /// The market that answered at this address before, where it was another one: a reason for caution.
        pub was: Option<String>,
    }

    /// A key file on this computer.
    pub struct KnownAccount {
        /// The name on this computer.
        pub name: String,
        /// The account's id.
        pub id: String,
    }

    /// The unlocked account.
    pub struct Session {
        /// The name on this computer.
        pub name: String,
        /// The account's id.
        pub id: String,
        /// Its public key.
        pub key: String,
        /// Is it open on this market? If not it must be opened with an identity.
        pub open: bool,
    }

    /// A word of the recovery words that is asked back.
    pub struct WordAnswer {
        /// Its place, from 0.
        pub place: u32,
        /// What was typed.
        pub word: String,
    }

    /// What the user set. Kept on this computer.
    pub struct Settings {
        /// `system`, `light` or `dark`.
        pub theme: Theme,
        /// Locks after so many minutes without a click or key; 0 never.
        pub lock_minutes: u32,
        /// Are amounts hidden?
        pub hide_amounts: bool,
        /// Native notifications.
        pub notify: bool,
    }

    #[serde(rename_all = "snake_case")]
    pub enum Theme { System, Light, Dark }

    // ---- what is told as it happens ----

    /// Told on the channel of `watch`, first everything as it is, then what changes.
    #[serde(rename_all = "snake_case", tag = "kind", content = "value")]
    pub enum Live {
        /// How the connection is.
        Connection(Connection),
        /// Balance, counts, estimate, days.
        Overview(Overview),
        /// The account's machines.
        Machines(Vec<Machine>),
        /// The account's jobs, newest first.
        Jobs(Vec<Job>),
        /// Today's prices.
        Prices(Prices),
        /// The compute node of this computer.
        Node(Node),
        /// Something that is worth a notification.
        Notice(Notice),
        /// The wallet locked itself.
        Locked,
    }

    /// How the connection to the market is.
    pub struct Connection {
        /// Does a gateway answer?
        pub online: bool,
        /// The gateway that answered last.
        pub gateway: String,
        /// The latest block.
        pub height: u64,
        /// The market's clock at that block.
        pub time: u64,
        /// Why there is no connection.
        pub error: Option<String>,
    }

    /// A job ended, a machine panics, credits arrived, a connection is back.
    pub struct Notice {
        pub tone: Tone,
        pub title: String,
        pub text: String,
    }

    #[serde(rename_all = "snake_case")]
    pub enum Tone { Good, Info, Warning, Bad }

    // ---- dashboard ----

    pub struct Overview {
        /// Starting credits left.
        pub granted: Amount,
        /// Earned credits.
        pub earned: Amount,
        /// In the escrows of jobs.
        pub escrow: Amount,
        /// Earned and held back until it vests.
        pub held: Amount,
        /// When the last of that vests, if no audit is open then and none finds anything.
        pub vests: Option<u64>,
        /// `granted + earned`: what can be spent.
        pub available: Amount,
        pub jobs: Counts,
        pub machines: Counts,
        /// What the machines may earn in the next 24 hours.
        pub profit: Amount,
        /// What the open jobs may cost in the next 24 hours.
        pub cost: Amount,
        /// The last 30 days, newest first.
        pub days: Vec<Day>,
        /// How reliable the account's machines were, in thousandths.
        pub reliability: u32,
        /// Audits that found their work right.
        pub audits_passed: u32,
        /// Their receipts and answers that were false.
        pub strikes: u32,
        /// So many strikes that they take no work any more.
        pub barred: bool,
    }

    /// Jobs or machines by how they stand.
    pub struct Counts {
        /// Jobs that train; machines that work.
        pub running: u32,
        /// Jobs that wait; machines that are on offer without work.
        pub waiting: u32,
        /// Finished or cancelled jobs; withdrawn machines.
        pub finished: u32,
        /// Aborted jobs; machines out of contact.
        pub panic: u32,
    }

    /// What one machine earned or one job cost on one day.
    pub struct Day {
        /// The market's day number.
        pub day: u64,
        /// When that day began.
        pub begins: u64,
        /// Is it profit of a machine (or the cost of a job)?
        pub profit: bool,
        /// The machine's or the job's id.
        pub id: String,
        pub name: String,
        /// Hours that were paid for, of all leases together.
        pub hours: f64,
        pub credits: Amount,
        pub receipts: u64,
    }

    /// An entry of the account's history.
    pub struct Entry {
        pub height: u64,
        pub index: u32,
        pub time: u64,
        /// The transaction that caused it; none for what happens at a block's end.
        pub transaction: Option<String>,
        pub incoming: bool,
        pub amount: Amount,
        /// `granted` or `earned`.
        pub purse: String,
        /// What the purse held afterwards.
        pub balance: Amount,
        /// Why, in words.
        pub why: String,
        /// `starting_credits`, `transfer_from`, `transfer_to`, `escrow`, `refund`, `payout`, `audit` or `forfeit`.
        pub cause: String,
        pub job: Option<String>,
        pub machine: Option<String>,
        pub lease: Option<String>,
        /// The receipt's number within its lease.
        pub receipt: Option<u32>,
        pub account: Option<String>,
        pub audit: Option<String>,
    }

    /// A page of the history, newest first.
    pub struct HistoryPage {
        pub entries: Vec<Entry>,
        /// Where the next page begins; none at the end.
        pub next: Option<Place>,
    }

    pub struct Place {
        pub height: u64,
        pub index: u32,
    }

    /// A transaction, down to what the chain holds of it.
    pub struct Transaction {
        pub id: String,
        pub height: Option<u64>,
        pub time: Option<u64>,
        /// What it does, for example `receipt`.
        pub action: String,
        /// The key that signed it.
        pub signer: String,
        pub nonce: u64,
        /// 0, or why it was rejected.
        pub code: u16,
        pub message: String,
        /// All of it, as indented JSON.
        pub json: String,
        pub block: Option<String>,
        /// Validators that signed the block's certificate.
        pub signers: u32,
    }

    /// A receipt as the chain accepted it.
    pub struct ReceiptView {
        pub job: String,
        pub lease: String,
        pub number: u32,
        pub machine: String,
        pub height: u64,
        pub time: u64,
        pub transaction: Option<String>,
        pub rounds: u64,
        pub samples: u64,
        pub paid_ms: u64,
        pub payout: Amount,
    }

    /// Why the balance is what it is.
    pub struct Statement {
        pub height: u64,
        pub granted: Amount,
        pub earned: Amount,
        pub lines: Vec<StatementLine>,
        /// Do the lines add up to the balance?
        pub balanced: bool,
    }

    pub struct StatementLine {
        /// `starting_credits`, `account`, `job`, `machine` or `audits`.
        pub cause: String,
        /// The account's, job's or machine's id.
        pub id: Option<String>,
        pub name: String,
        pub incoming: Amount,
        pub outgoing: Amount,
        pub entries: u64,
    }

    // ---- prices ----

    /// Today's prices.
    pub struct Prices {
        pub current_slot: u8,
        /// When the current slot ends.
        pub slot_ends: u64,
        /// The market's clock ahead of UTC, in milliseconds.
        pub utc_offset_ms: i64,
        pub slots: Vec<SlotPrice>,
    }

    pub struct SlotPrice {
        /// For example `06-12`.
        pub name: String,
        pub core_hour: Amount,
        pub gpu_hour: Amount,
        pub ram_gib_hour: Amount,
        pub disk_gib_hour: Amount,
    }

    // ---- machines ----

    /// What was measured of a machine.
    pub struct Measured {
        pub name: String,
        pub platform: String,
        pub cpu: String,
        pub gpu: String,
        pub resources: Resources,
        /// Million multiply-adds a second of one core.
        pub speed: u64,
        /// When.
        pub measured: u64,
    }

    pub struct Resources {
        pub cores: u32,
        pub gpus: u32,
        pub ram_mib: u64,
        pub disk_mib: u64,
    }

    /// What is offered of a machine.
    pub struct Offer {
        pub resources: Resources,
        /// Minutes of the market's day; both none for the whole day. `from` after `to` goes over midnight.
        pub from_minute: Option<u16>,
        pub to_minute: Option<u16>,
        /// Monday is bit 0; 127 is every day.
        pub weekdays: u8,
        /// The offer's end.
        pub until: Option<u64>,
        /// The least unit prices.
        pub min_core_hour: Amount,
        pub min_gpu_hour: Amount,
        pub min_ram_gib_hour: Amount,
        pub min_disk_gib_hour: Amount,
        /// Do running leases end with the hours (or go on to their end)?
        pub ends_leases: bool,
    }

    /// What an offer would earn.
    pub struct Evaluation {
        /// Why it would be refused; none where it is legitimate.
        pub refused: Option<String>,
        pub slots: Vec<SlotEarning>,
        /// If all that is offered is used all the time, over the four slots.
        pub full: Amount,
        /// At the usual use of each slot.
        pub expected: Amount,
    }

    pub struct SlotEarning {
        pub slot: u8,
        pub name: String,
        pub begins: u64,
        pub open_ms: u64,
        pub core_hour: Amount,
        pub reaches_minimum: bool,
        pub utilisation_permille: u32,
        pub full: Amount,
        pub expected: Amount,
    }

    /// One of the account's machines.
    pub struct Machine {
        pub id: String,
        pub name: String,
        /// Is it this computer, lent from this wallet?
        pub here: bool,
        pub platform: String,
        pub cpu: String,
        pub gpu: String,
        pub resources: Resources,
        pub speed: u64,
        /// `withdrawn`, `idle`, `in_use`, `paused`, `draining` or `panic`.
        pub state: String,
        /// Why, in words.
        pub reason: String,
        pub offer: Option<Offer>,
        /// A change that waits for running leases.
        pub pending: Option<Offer>,
        pub used: Resources,
        pub reliability: u32,
        pub leases_finished: u32,
        pub leases_lost: u32,
        pub leases: Vec<String>,
        pub earned: Amount,
        /// Earned and held back until it vests.
        pub held: Amount,
        /// When the last of that vests, if no audit is open then and none finds anything.
        pub vests: Option<u64>,
        /// The audit for which it computes another's round.
        pub auditing: Option<String>,
        /// Paused from this wallet: until when (0: until it is taken up by hand).
        pub paused_until: Option<u64>,
    }

    /// An invitation of a remote machine.
    pub struct Invite {
        pub code: String,
        pub expires: u64,
        /// What to type over there.
        pub command: String,
        /// Is the market on this computer only, so that a remote machine doesn't reach it?
        pub loopback: bool,
    }

    /// The compute node of this computer, or one that was started over SSH.
    pub struct Node {
        /// Is its process running?
        pub running: bool,
        /// Since when.
        pub since: Option<u64>,
        /// Its machine on the market.
        pub machine: Option<String>,
        /// Of one core, in percent, of the node and its trainers.
        pub cpu_percent: f64,
        /// Resident memory of the node and its trainers.
        pub ram_mib: u64,
        /// The jobs that it works for now.
        pub jobs: Vec<String>,
        /// Earned since it was started here.
        pub earned: Amount,
        /// The last lines that it printed.
        pub log: Vec<String>,
        /// Why it ended, where it ended by itself.
        pub error: Option<String>,
        /// That this computer is lent, but not by this account on this market.
        pub elsewhere: Option<String>,
        /// Machines that are lent over SSH from here, by target, with the last line that each printed.
        pub remote: Vec<RemoteNode>,
    }

    pub struct RemoteNode {
        pub target: String,
        pub running: bool,
        pub line: String,
    }

    // ---- jobs ----

    /// A job in the list.
    pub struct Job {
        pub id: String,
        pub name: String,
        /// `queued`, `matched`, `running`, `recovering`, `finished`, `cancelled` or `panic`.
        pub state: String,
        /// How it stands and why, in words.
        pub status: String,
        pub submitted: u64,
        pub started: Option<u64>,
        pub ended: Option<u64>,
        pub budget: Amount,
        pub escrow: Amount,
        pub paid: Amount,
        /// What audits cost on top of that.
        pub fees: Amount,
        /// Workers that train now.
        pub workers: u32,
    }

    /// A job's page.
    pub struct JobDetail {
        pub job: Job,
        /// `train`, `evaluate` or `predict`.
        pub kind: String,
        /// Its spec as TOML.
        pub spec: String,
        pub leases: Vec<Lease>,
        /// The result's blob, once finished.
        pub result: Option<String>,
        /// Rounds in the last checkpoint, where one is stored.
        pub checkpoint_rounds: Option<u64>,
        pub failures: u32,
        pub epochs: u32,
    }

    /// One worker of a job.
    pub struct Lease {
        pub id: String,
        pub rank: u32,
        pub machine: String,
        pub machine_name: String,
        /// `active`, `finished`, `failed`, `lost` or `ended`, in words.
        pub state: String,
        pub training: bool,
        pub rounds: u64,
        pub samples: u64,
        pub receipts: u32,
        pub paid: Amount,
        pub paid_ms: u64,
    }

    /// What is known about a job's work: what other machines computed again, and what they found.
    pub struct Verification {
        /// So many of a thousand receipts are audited at least; 0: none is.
        pub audit_permille: u32,
        /// What was found, in a sentence.
        pub summary: String,
        /// Can it still change?
        pub open: bool,
        /// Receipts with rounds that can be audited.
        pub windows: u32,
        /// Those of them that were drawn.
        pub audited: u32,
        /// Their draw is still to come.
        pub undrawn: u32,
        pub passed: u32,
        /// Found false.
        pub wrong: u32,
        /// Not shown by the worker.
        pub silent: u32,
        /// Nobody could say.
        pub void: u32,
        pub going_on: u32,
        /// Paid for audits.
        pub fees: Amount,
        /// Of the pay: held until it vests.
        pub held: Amount,
        pub vests: Option<u64>,
        /// Of the pay: lost by the lenders.
        pub forfeited: Amount,
        /// All audits, newest first.
        pub audits: Vec<Audit>,
    }

    /// One round that is computed again.
    pub struct Audit {
        pub id: String,
        pub lease: String,
        pub rank: u32,
        /// The audited receipt's number.
        pub receipt: u32,
        /// The audited round, counted from 1; none until the worker opened it.
        pub round: Option<u64>,
        /// `open`, `passed`, `false`, `silent` or `void`.
        pub verdict: String,
        /// How it stands, in words.
        pub status: String,
        pub drawn: u64,
        /// The machines that compute, or computed, it again.
        pub auditors: Vec<AuditMachine>,
    }

    pub struct AuditMachine {
        pub machine: String,
        /// What it found, in a word; `computes` until it says.
        pub found: String,
    }

    /// Told on the channel of `watch_job`: what is known first, then as it comes.
    #[serde(rename_all = "snake_case", tag = "kind", content = "value")]
    pub enum JobNews {
        /// The job as it is now; again whenever it changes.
        Detail(Box<JobDetail>),
        /// What workers reported, oldest first.
        Reports(Vec<Report>),
        /// Something is wrong with the connection; it goes on by itself.
        Trouble(String),
        /// The job is closed and everything was told.
        End,
    }

    /// A worker's report.
    pub struct Report {
        pub time: u64,
        pub rank: u32,
        pub what: ReportKind,
    }

    /// What is reported. Epochs are counted from 0: where `epoch + 1` is `epochs` it is the last one.
    #[serde(rename_all = "snake_case", tag = "kind")]
    pub enum ReportKind {
        Fetching { done_bytes: u64, total_bytes: u64 },
        Round { round: u64, rounds: u64, epoch: u64, loss: f64, compute_ms: u64, exchange_ms: u64, wait_ms: u64 },
        Epoch { epoch: u64, epochs: u64, accuracy: Option<f64>, loss: f64 },
        Log { line: String },
    }

    /// A ready job that can be started from.
    pub struct Preset {
        pub id: String,
        pub title: String,
        pub about: String,
        pub toml: String,
        /// The dataset's name in it.
        pub dataset: String,
    }

    /// A dataset that was imported here.
    pub struct Dataset {
        pub name: String,
        pub manifest: String,
        pub splits: Vec<Split>,
        pub bytes: u64,
    }

    pub struct Split {
        pub name: String,
        pub samples: u64,
    }

    /// Told on the channel of `import_dataset`.
    pub struct ImportProgress {
        /// `cutting shards` or `storing shards`.
        pub step: String,
        pub done_bytes: u64,
        /// 0 where it isn't known yet.
        pub total_bytes: u64,
    }

    /// The fields of a job file that the form edits. The file is the truth: they are read from it and written into it.
    pub struct JobFields {
        pub name: String,
        pub dataset: String,
        pub workers_min: u32,
        pub workers_max: u32,
        pub cores: u32,
        pub ram_mib: u64,
        /// Names of slots in which it may start; none for any.
        pub slots: Vec<String>,
        /// The cap in credits, as typed: `20` or `0.5`.
        pub max_credits: String,
        /// 0 where the job doesn't train.
        pub epochs: u32,
    }

    /// A job file, looked at.
    pub struct JobCheck {
        /// What is wrong with it; empty where it can be submitted.
        pub problems: Vec<SpecProblem>,
        /// None where the text isn't even TOML.
        pub fields: Option<JobFields>,
        pub quote: Option<Quote>,
        /// Why there is no quote although the file is fine, for example no connection.
        pub quote_error: Option<CommandError>,
    }

    pub struct SpecProblem {
        /// From 1; none where it is about the whole.
        pub line: Option<u32>,
        pub message: String,
    }

    pub struct Quote {
        /// Workers that would start now.
        pub workers: u32,
        /// Machines on offer that are large enough.
        pub machines: u32,
        /// Are there enough for its minimum?
        pub enough: bool,
        pub expected_start: Option<u64>,
        pub expected_ms: Option<u64>,
        pub expected_cost: Amount,
        /// What is put into escrow: the most that it can cost.
        pub budget: Amount,
        /// Does the budget cover the expected cost?
        pub covered: bool,
        pub current_slot: u8,
        pub parameters: u64,
        pub ram_mib: u64,
        /// So many of a thousand receipts would be audited at least; 0: none.
        pub audit_permille: u32,
        /// What that costs, in thousandths of the workers' pay. All costs include it.
        pub fee_permille: u32,
        pub slots: Vec<SlotQuote>,
    }

    pub struct SlotQuote {
        pub slot: u8,
        pub name: String,
        pub begins: u64,
        pub allowed: bool,
        pub workers: u32,
        pub enough: bool,
        pub cost_per_hour: Amount,
        pub expected_cost: Amount,
    }

    /// A job's result on this computer.
    pub struct SavedResult {
        pub folder: String,
        pub files: Vec<String>,
        /// Share of right answers, computed here, where it was asked for.
        pub accuracy: Option<f64>,
        pub loss: Option<f64>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_types_are_those_of_this_file() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/src/types.ts");
        let text = typescript();
        if std::env::var_os("PLUTO_RENEW_TYPES").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "ui/src/types.ts is old: run `make pluto-types` and commit it");
    }
}
