//! The bodies of requests and responses. Amounts are numbers of microcredits, times are milliseconds since 1970 in UTC,
//! ids and hashes are texts.

use deepmarket_types::{
    AccountId, AuditId, ChainId, Checkpoint, Credits, Event, Hash, Height, JobId, JobReason, JobState, LeaseId, LeaseState,
    MachineConfig, MachineId, MachineReason, MachineState, Offer, PublicKey, Resources, Signature, SlotPrices, TimeMs,
    UnitPrices, Voucher,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error as REST reports it (DESIGN section 10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable number: 1xxx form, 2xxx ledger, 3xxx jobs, 4xxx mempool, 5xxx gateway, 6xxx worker, 7xxx wallet.
    pub code: u16,
    /// Stable short name, for example `unknown_job`.
    pub name: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it; empty where nothing can be done.
    pub hint: String,
    /// May the same request succeed later?
    pub retryable: bool,
}

/// How a market and this gateway stand: `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The market's name.
    pub name: String,
    /// The chain's id (the genesis document's hash).
    #[schema(value_type = String)]
    pub chain: ChainId,
    /// The latest decided block that this gateway holds.
    #[schema(value_type = u64)]
    pub height: Height,
    /// That block's time.
    #[schema(value_type = u64)]
    pub time: TimeMs,
    /// That block's hash.
    #[schema(value_type = String)]
    pub block: Hash,
    /// Root of the state after that block.
    #[schema(value_type = String)]
    pub state_root: Hash,
    /// The name of the validator that serves this gateway.
    pub validator: String,
    /// Number of validators.
    pub validators: u32,
    /// Transactions that wait to be decided.
    pub mempool: u64,
    /// The release.
    pub version: String,
}

/// A libp2p peer that serves blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// The peer's id.
    pub peer_id: String,
    /// Its multiaddresses.
    pub addresses: Vec<String>,
}

/// Where data is to be had: `GET /v1/network`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// This gateway's own blob peer.
    pub peer: Peer,
    /// The gateways of all validators, as the genesis document names them.
    pub gateways: Vec<String>,
    /// How often a lent machine should send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// The longest time that one receipt is paid for, in milliseconds: send one at least this often.
    pub receipt_ms: u64,
}

/// What became of a transaction: `POST /v1/transactions`, `GET /v1/transactions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionStatus {
    /// The transaction.
    #[schema(value_type = String)]
    pub id: Hash,
    /// The block that holds it; none while it waits.
    #[schema(value_type = Option<u64>)]
    pub height: Option<Height>,
    /// Its place in the block.
    pub index: Option<u32>,
    /// 0, or why the ledger rejected it; none while it waits.
    pub code: Option<u16>,
    /// The reason in words; empty on success.
    pub message: String,
    /// The transaction itself, where asked for by id.
    #[schema(value_type = Option<Object>)]
    pub transaction: Option<deepmarket_types::Transaction>,
}

/// A block: `GET /v1/blocks/{height}` (or `latest`), `GET /v1/blocks?before=&limit=`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// The block's hash.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// What was decided.
    #[schema(value_type = Object)]
    pub header: deepmarket_types::Header,
    /// Names, ids and results of its transactions in order.
    pub transactions: Vec<BlockTransaction>,
    /// The consensus round that decided it.
    pub round: u32,
    /// The validators that signed its commit certificate.
    #[schema(value_type = Vec<String>)]
    pub signers: Vec<PublicKey>,
}

/// One transaction in a block's listing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockTransaction {
    /// Its id.
    #[schema(value_type = String)]
    pub id: Hash,
    /// What it does, for example `receipt`.
    pub action: String,
    /// 0, or why the ledger rejected it.
    pub code: u16,
    /// The reason in words.
    pub message: String,
}

/// An account: `GET /v1/accounts`, `GET /v1/accounts/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AccountId,
    /// Its key.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The nonce that its next transaction must carry.
    pub nonce: u64,
    /// Starting credits left.
    #[schema(value_type = u64)]
    pub granted: Credits,
    /// Earned credits.
    #[schema(value_type = u64)]
    pub earned: Credits,
    /// What its jobs hold in escrow.
    #[schema(value_type = u64)]
    pub escrow: Credits,
    /// Pay of its machines that is held until it vests.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub held: Credits,
    /// When the last of that vests, if no audit is open then and none finds anything.
    #[schema(value_type = Option<u64>)]
    #[serde(default)]
    pub vests: Option<TimeMs>,
    /// Audits that found its machines' work right.
    #[serde(default)]
    pub audits_passed: u32,
    /// Receipts and answers of its machines that turned out to be false.
    #[serde(default)]
    pub strikes: u32,
    /// So many strikes that its machines take no work any more.
    #[serde(default)]
    pub barred: bool,
    /// How reliable its machines were, in thousandths: what a new machine of it begins with.
    pub reliability: u32,
    /// Its open and closed jobs, newest first, at most 100.
    #[schema(value_type = Vec<String>)]
    pub jobs: Vec<JobId>,
    /// Its machines.
    #[schema(value_type = Vec<String>)]
    pub machines: Vec<MachineId>,
}

/// One event with its place in the chain: `GET /v1/accounts/{id}/history`, `GET /v1/jobs/{id}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// The block.
    #[schema(value_type = u64)]
    pub height: Height,
    /// The block's time.
    #[schema(value_type = u64)]
    pub time: TimeMs,
    /// The event's number in the block.
    pub index: u32,
    /// The transaction that caused it; none for what happens at a block's end (machines lost, jobs matched or out of budget).
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub transaction: Option<Hash>,
    /// What happened.
    #[schema(value_type = Object)]
    pub event: Event,
}

/// A machine: `GET /v1/machines`, `GET /v1/machines/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: MachineId,
    /// Its owner.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// Its key.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The nonce that its next heartbeat must carry.
    pub nonce: u64,
    /// What was measured.
    #[schema(value_type = Object)]
    pub config: MachineConfig,
    /// What is offered.
    #[schema(value_type = Option<Object>)]
    pub offer: Option<Offer>,
    /// A changed offer that waits for running leases to end.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub pending: Option<Offer>,
    /// How it stands.
    #[schema(value_type = String)]
    pub state: MachineState,
    /// Why: `reason` names it, with what belongs to it.
    #[schema(value_type = Object)]
    pub why: MachineReason,
    /// Why, in words.
    pub reason: String,
    /// What its leases use.
    #[schema(value_type = Object)]
    pub used: Resources,
    /// How reliable it is, in thousandths: leases served to the end count for it, lost ones against it, recent ones more.
    pub reliability: u32,
    /// Training speed that its finished leases showed, in million multiply-adds a second; 0 before the first.
    pub observed_speed: u64,
    /// Leases served to the end.
    pub leases_finished: u32,
    /// Leases lost.
    pub leases_lost: u32,
    /// Its running leases.
    #[schema(value_type = Vec<String>)]
    pub leases: Vec<LeaseId>,
    /// All that it ever earned.
    #[schema(value_type = u64)]
    pub earned: Credits,
    /// Its pay that is held until it vests.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub held: Credits,
    /// When the last of that vests, if no audit is open then and none finds anything.
    #[schema(value_type = Option<u64>)]
    #[serde(default)]
    pub vests: Option<TimeMs>,
    /// The audit for which it computes a round.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub auditing: Option<AuditId>,
    /// Its owner's audits that found the work right.
    #[serde(default)]
    pub audits_passed: u32,
    /// Its owner's false receipts and answers.
    #[serde(default)]
    pub strikes: u32,
}

/// One worker of a job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// The lease.
    #[schema(value_type = String)]
    pub id: LeaseId,
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The worker's rank.
    pub rank: u32,
    /// Its machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// The machine's owner, who is paid.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// How it stands.
    #[schema(value_type = Object)]
    pub state: LeaseState,
    /// When it began.
    #[schema(value_type = u64)]
    pub started: TimeMs,
    /// The number of its last receipt; 0 before the first.
    pub sequence: u32,
    /// Rounds done.
    pub rounds: u64,
    /// Samples trained on.
    pub samples: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// What it was paid, with what is held of it.
    #[schema(value_type = u64)]
    pub paid: Credits,
    /// What is held of it until it vests.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub held: Credits,
    /// What it lost of it: false work is not paid, and neither is work that isn't shown.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub forfeited: Credits,
    /// Block time that was paid for, in milliseconds.
    pub paid_ms: u64,
    /// Hash of the parameters at the last receipt.
    #[schema(value_type = Option<String>)]
    pub parameters: Option<Hash>,
}

/// A job: `GET /v1/jobs`, `GET /v1/jobs/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Who pays for it.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// Its name.
    pub name: String,
    /// How it stands.
    #[schema(value_type = Object)]
    pub state: JobState,
    /// How it stands, and why, in words.
    pub status: String,
    /// Why it stands there, and for one that waits: what for.
    #[schema(value_type = Object)]
    pub why: JobReason,
    /// `why` in words.
    pub reason: String,
    /// Its spec as TOML.
    pub spec: String,
    /// When it was submitted.
    #[schema(value_type = u64)]
    pub submitted: TimeMs,
    /// When it was matched.
    #[schema(value_type = Option<u64>)]
    pub started: Option<TimeMs>,
    /// When it closed.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<TimeMs>,
    /// What was put into escrow.
    #[schema(value_type = u64)]
    pub budget: Credits,
    /// What is left there.
    #[schema(value_type = u64)]
    pub escrow: Credits,
    /// What was paid to lenders, with what is held of it.
    #[schema(value_type = u64)]
    pub paid: Credits,
    /// What was paid on top for audits.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub fees: Credits,
    /// So many of a thousand receipts are audited at least; 0: none is.
    #[serde(default)]
    pub audit_permille: u32,
    /// Its workers.
    pub leases: Vec<LeaseView>,
    /// The model, once finished.
    #[schema(value_type = Option<String>)]
    pub result: Option<Hash>,
    /// The last state that was stored on the way: what it goes on from, or what is left of it where it was stopped.
    #[schema(value_type = Option<Object>)]
    pub checkpoint: Option<Checkpoint>,
    /// Counts how often `members` changed.
    pub generation: u32,
    /// The leases that train together now, in order.
    #[schema(value_type = Vec<String>)]
    pub members: Vec<LeaseId>,
    /// Workers that failed so far; leaving and losing contact don't count.
    pub failures: u32,
}

/// One rank as its fellow workers need it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RankView {
    /// The rank.
    pub rank: u32,
    /// The lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// The machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// The machine's key: its libp2p identity.
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// How fast its machine is said or was seen to train, in million multiply-adds a second; 0 where nobody knows.
    pub speed: u64,
}

/// An active lease with all that a worker needs to serve it: `GET /v1/machines/{id}/leases`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    /// The lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The worker's rank.
    pub rank: u32,
    /// Receipts accepted so far.
    pub sequence: u32,
    /// Canonical bytes of the job spec, in hex.
    pub spec: String,
    /// Fixed by the chain when the job was matched; decides the order of the data.
    #[schema(value_type = String)]
    pub seed: Hash,
    /// What the worker may use.
    #[schema(value_type = Object)]
    pub resources: Resources,
    /// Counts the changes of `members`.
    pub generation: u32,
    /// The leases that train the job together, in order. One that got ready becomes a member with one of the next blocks.
    pub members: Vec<RankView>,
    /// The ranks with which the job began: its schedule is made for so many.
    pub world: u32,
    /// The last state that was stored on the way.
    #[schema(value_type = Option<Object>)]
    pub checkpoint: Option<Checkpoint>,
}

/// A question for a price: `POST /v1/quotes`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct QuoteRequest {
    /// Canonical bytes of the job spec, in hex.
    pub spec: String,
    /// Samples of the training split.
    pub train_samples: u64,
    /// Samples of the validation split.
    pub validate_samples: u64,
}

/// What a job would cost if it started in one slot of the day.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SlotQuote {
    /// The slot, 0 to 3.
    pub slot: u8,
    /// When it begins: now for the current one, else its next beginning.
    #[schema(value_type = u64)]
    pub begins: TimeMs,
    /// May the job start in it, by its spec?
    pub allowed: bool,
    /// Its unit prices.
    #[schema(value_type = Object)]
    pub prices: UnitPrices,
    /// Workers that the machines on offer in it could be, whether or not they are in use.
    pub workers: u32,
    /// Are these enough for the job's minimum?
    pub enough: bool,
    /// When the job would start in it; none where nobody can tell.
    #[schema(value_type = Option<u64>)]
    pub expected_start: Option<TimeMs>,
    /// The cost of one hour with the quoted workers.
    #[schema(value_type = u64)]
    pub cost_per_hour: Credits,
    /// The cost of the expected time from the slot's beginning on, across slots; not limited by the budget.
    #[schema(value_type = u64)]
    pub expected_cost: Credits,
}

/// The answer to a quote. It promises nothing and costs nothing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// Workers that would start now.
    pub workers: u32,
    /// Machines on offer that meet the demand.
    pub machines: u32,
    /// Are there enough for the job's minimum?
    pub enough: bool,
    /// When it would start; none where nobody can tell.
    #[schema(value_type = Option<u64>)]
    pub expected_start: Option<TimeMs>,
    /// Expected time from the start to the end in milliseconds; none without a measured machine.
    pub expected_ms: Option<u64>,
    /// Expected cost from the expected start on, across slots, at most the budget.
    #[schema(value_type = u64)]
    pub expected_cost: Credits,
    /// What would be put into escrow: the most that the job can cost.
    #[schema(value_type = u64)]
    pub budget: Credits,
    /// Does the budget cover the expected cost?
    pub covered: bool,
    /// The current slot, 0 to 3.
    pub current_slot: u8,
    /// The four slots.
    pub slots: Vec<SlotQuote>,
    /// The model's parameters.
    pub parameters: u64,
    /// Memory that a worker needs, in MiB.
    pub ram_mib: u64,
    /// So many of a thousand receipts would be audited at least; 0: none.
    #[serde(default)]
    pub audit_permille: u32,
    /// What audits cost, in thousandths of what the workers are paid. All costs include it.
    #[serde(default)]
    pub fee_permille: u32,
}

/// What would an offer earn? `POST /v1/evaluations`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationRequest {
    /// What would be offered.
    #[schema(value_type = Object)]
    pub offer: Offer,
    /// What was measured of the machine; the offer is checked against it. None where only the earnings are asked for.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    pub config: Option<MachineConfig>,
}

/// What an offer would earn in one of the next four slots.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SlotEarningView {
    /// The slot of the day, 0 to 3.
    pub slot: u8,
    /// When it begins; now for the running one.
    #[schema(value_type = u64)]
    pub begins: TimeMs,
    /// How long the offer holds in it, in milliseconds.
    pub open_ms: u64,
    /// Its unit prices; of tomorrow's slots today's, which is all that is known.
    #[schema(value_type = Object)]
    pub prices: UnitPrices,
    /// Do the prices reach the offer's minimum?
    pub reaches_minimum: bool,
    /// What it earns if all that is offered is used all the time.
    #[schema(value_type = u64)]
    pub full: Credits,
    /// How much of what is on offer is used in this slot of the day, in thousandths.
    pub utilisation_permille: u32,
    /// `full` times the utilisation.
    #[schema(value_type = u64)]
    pub expected: Credits,
}

/// The answer to an [`EvaluationRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EvaluationView {
    /// Why the offer would be refused, in words and with what to do; none where it is legitimate.
    pub refused: Option<String>,
    /// The four slots from now on.
    pub slots: Vec<SlotEarningView>,
}

/// What an account may expect of the next 24 hours: `GET /v1/accounts/{id}/estimate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EstimateView {
    /// What its machines earn at the usual utilisation of each slot, or by the leases that they serve.
    #[schema(value_type = u64)]
    pub profit: Credits,
    /// What its open jobs cost: at most what they have in escrow.
    #[schema(value_type = u64)]
    pub cost: Credits,
}

/// Credits that one machine earned or one job cost on one day: `GET /v1/accounts/{id}/days`, newest day first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DayEntry {
    /// The market's day, as prices count it.
    pub day: u64,
    /// When the day began.
    #[schema(value_type = u64)]
    pub begins: TimeMs,
    /// The machine that earned, or the job that cost.
    #[schema(value_type = Object)]
    pub line: DayLine,
    /// The machine's or the job's name.
    pub name: String,
    /// Time that was paid for, of all leases together, in milliseconds.
    pub paid_ms: u64,
    /// Credits earned or spent.
    #[schema(value_type = u64)]
    pub credits: Credits,
    /// Receipts.
    pub receipts: u64,
}

/// What a [`DayEntry`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum DayLine {
    /// One of the account's machines earned.
    Profit(MachineId),
    /// One of the account's jobs cost.
    Cost(JobId),
}

/// Why a balance is what it is: sums of all entries of an account's history, by what caused them:
/// `GET /v1/accounts/{id}/statement`. `incoming − outgoing` over all lines is `granted + earned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Statement {
    /// The height that it is of.
    #[schema(value_type = u64)]
    pub height: Height,
    /// The starting credits that are left.
    #[schema(value_type = u64)]
    pub granted: Credits,
    /// The earned credits.
    #[schema(value_type = u64)]
    pub earned: Credits,
    /// One for each cause.
    pub lines: Vec<StatementLine>,
    /// Do the lines add up to the balance?
    pub balanced: bool,
}

/// One line of a [`Statement`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementLine {
    /// The cause.
    #[schema(value_type = Object)]
    pub cause: StatementCause,
    /// Credits that came.
    #[schema(value_type = u64)]
    pub incoming: Credits,
    /// Credits that went.
    #[schema(value_type = u64)]
    pub outgoing: Credits,
    /// Entries of the history that the line sums up.
    pub entries: u64,
}

/// What caused the entries of a [`StatementLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum StatementCause {
    /// The starting credits.
    StartingCredits,
    /// Transfers with another account.
    Account(AccountId),
    /// A job of the account: its escrow, and what came back of it.
    Job(JobId),
    /// Work of a machine of the account.
    Machine(MachineId),
    /// Audits: what its machines were paid as auditors, and what it got of others' forfeited pay.
    Audits,
}

/// An open invitation of a machine: `GET /v1/invites/{code}`, by the code's public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteView {
    /// Whose machine it will be.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// What is offered of it as soon as it joins.
    #[schema(value_type = Option<Object>)]
    pub offer: Option<Offer>,
    /// The code is void from this moment on.
    #[schema(value_type = u64)]
    pub expires: TimeMs,
}

/// Today's prices: `GET /v1/prices`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PricesView {
    /// The day's prices.
    #[schema(value_type = Object)]
    pub prices: SlotPrices,
    /// The current slot, 0 to 3.
    pub current_slot: u8,
    /// Names of the slots, for example `00-06`.
    pub slot_names: Vec<String>,
    /// When the current slot ends.
    #[schema(value_type = u64)]
    pub slot_ends: TimeMs,
}

/// The ledger's totals and whether they agree: `GET /v1/ledger`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// The height that the totals are of.
    #[schema(value_type = u64)]
    pub height: Height,
    /// All that was ever minted.
    #[schema(value_type = u64)]
    pub minted: Credits,
    /// In purses.
    #[schema(value_type = u64)]
    pub purses: Credits,
    /// In escrow.
    #[schema(value_type = u64)]
    pub escrow: Credits,
    /// Held back until it vests.
    #[schema(value_type = u64)]
    pub held: Credits,
    /// The treasury: audit fees that weren't paid to auditors yet.
    #[schema(value_type = u64)]
    pub treasury: Credits,
    /// Taken out of the world: half of what false work loses.
    #[schema(value_type = u64)]
    #[serde(default)]
    pub burned: Credits,
    /// Is `minted` the sum of the others?
    pub conserved: bool,
}

/// Asks the gateway's registrar for a voucher: `POST /v1/vouchers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VoucherRequest {
    /// The identity to verify, for example a mail address of the institution.
    pub identity: String,
    /// The key of the account to open.
    #[schema(value_type = String)]
    pub key: PublicKey,
}

/// A registrar's voucher.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VoucherResponse {
    /// The voucher.
    #[schema(value_type = Object)]
    pub voucher: Voucher,
}

/// What a worker tells about its progress, off the chain; batches go to `POST /v1/jobs/{id}/progress`, signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The worker's clock.
    #[schema(value_type = u64)]
    pub time: TimeMs,
    /// The worker's rank.
    pub rank: u32,
    /// Counts up for each worker, so that streams can be resumed and doubles be dropped.
    pub sequence: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: ProgressKind,
}

/// Kinds of progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ProgressKind {
    /// Data is being fetched.
    Fetching {
        /// Bytes that are here.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Rounds are being computed.
    Round {
        /// Rounds done.
        round: u64,
        /// Rounds in all.
        rounds: u64,
        /// Epoch that the round belongs to, counted from 0.
        epoch: u64,
        /// Mean training loss of this worker since the last report.
        loss: f64,
        /// Time spent computing since the lease began, in milliseconds.
        compute_ms: u64,
        /// Time spent sending and receiving updates, in milliseconds.
        exchange_ms: u64,
        /// Time spent waiting for other ranks, in milliseconds.
        wait_ms: u64,
        /// Bytes sent to and received from other ranks.
        exchanged_bytes: u64,
    },
    /// Workers trained some rounds together: the job's ledger of batches. A later entry that begins before the end of an earlier one
    /// replaces it from there on: the job went on from a checkpoint.
    Trained {
        /// How often the workers had changed.
        generation: u32,
        /// The first of these rounds, counted from 0 over the whole job. They belong to one epoch.
        from: u64,
        /// The round after the last one.
        to: u64,
        /// The epoch, counted from 0.
        epoch: u64,
        /// Samples that they used, all workers together.
        samples: u64,
        /// The workers' ranks.
        ranks: Vec<u32>,
    },
    /// An epoch ended; the model was evaluated on the validation split by all ranks together.
    Epoch {
        /// The epoch, counted from 0.
        epoch: u64,
        /// Epochs in all.
        epochs: u64,
        /// Samples that were trained on in this epoch, all workers together: each of the training split once.
        trained: u64,
        /// Correct answers of the whole split (classification only).
        correct: Option<u64>,
        /// Samples of the whole split.
        samples: u64,
        /// Mean loss on it.
        loss: f64,
    },
    /// A line for people.
    Log {
        /// The line.
        line: String,
    },
    /// The worker ended; the totals of its lease.
    Done {
        /// Peak memory of the trainer, in MiB.
        peak_ram_mib: u64,
        /// CPU time of the trainer, in milliseconds.
        cpu_ms: u64,
        /// Time spent computing, in milliseconds.
        compute_ms: u64,
        /// Time spent sending and receiving updates, in milliseconds.
        exchange_ms: u64,
        /// Time spent waiting for other ranks, in milliseconds.
        wait_ms: u64,
        /// Bytes sent to other ranks.
        sent_bytes: u64,
        /// Bytes received from other ranks.
        received_bytes: u64,
        /// Bytes of data fetched.
        fetched_bytes: u64,
    },
}

/// What `GET /v1/jobs/{id}/events` tells, one for each server-sent event; the event's name is the variant's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum JobEvent {
    /// A worker reported.
    Progress {
        /// The entry's number in this gateway's list, counted from 1: resume with `after=` this.
        index: u64,
        /// What was reported.
        entry: Progress,
    },
    /// The job's state changed (or: is this, when the stream begins).
    State {
        /// The state.
        #[schema(value_type = Object)]
        state: JobState,
        /// The state, and why, in words.
        status: String,
    },
    /// The chain tells of the job's workers: which began, ended, joined those that train, or left them. Receipts aren't told.
    Chain {
        /// The event, with its place in the chain.
        entry: HistoryEntry,
    },
    /// The job is closed and all that its workers reported was sent.
    End,
}

/// What `GET /v1/events` tells of each block; the server-sent event's id is the height.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BlockEvent {
    /// The block's number.
    #[schema(value_type = u64)]
    pub height: Height,
    /// The block's time.
    #[schema(value_type = u64)]
    pub time: TimeMs,
    /// The block's hash.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// How many transactions it holds.
    pub transactions: u32,
    /// What it changed, in order.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Event>,
}

/// A signed batch of progress.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProgressBatch {
    /// The machine that works for the job.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// JSON of a list of [`Progress`], as text, so that what is signed is what is sent.
    pub entries: String,
    /// Signature of the machine (domain `Request`) over `progress ‖ job ‖ entries`, see [`progress_content`].
    #[schema(value_type = String)]
    pub signature: Signature,
}

/// The signed content of a [`ProgressBatch`].
pub fn progress_content(job: JobId, entries: &str) -> Vec<u8> {
    deepmarket_types::encode(&("progress", job, entries))
}

/// The signed content of a blob upload. `PUT /v1/blobs/{hash}` carries the headers `x-deepmarket-key` (an account's or a
/// machine's public key, known on the chain) and `x-deepmarket-signature` (domain `Request` over this).
pub fn upload_content(hash: &Hash, bytes: u64) -> Vec<u8> {
    deepmarket_types::encode(&("upload", hash, bytes))
}

/// Name of the header with the uploader's public key.
pub const KEY_HEADER: &str = "x-deepmarket-key";
/// Name of the header with the uploader's signature.
pub const SIGNATURE_HEADER: &str = "x-deepmarket-signature";
/// The most bytes of the entries in one [`ProgressBatch`].
pub const MAX_PROGRESS_BYTES: usize = 256 * 1024;
/// The longest that a gateway holds a request back for `wait_ms`, in milliseconds.
pub const MAX_WAIT_MS: u64 = 30_000;
/// The most bytes of one blob.
pub const MAX_BLOB_BYTES: u64 = 256 * 1024 * 1024;
