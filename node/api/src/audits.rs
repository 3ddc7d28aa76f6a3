//! Audits as REST tells them: what a borrower sees of them, and what a machine or a validator has to do in them (DESIGN section 7).

use deepmarket_types::{
    AccountId, AuditId, AuditState, Credits, Finding, Hash, Height, JobId, LeaseId, MachineId, Resources, RoundCommitment,
    RoundTrace, TimeMs,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An audit: `GET /v1/jobs/{id}/audits`, `GET /v1/audits?state=`, `GET /v1/audits/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its number.
    #[schema(value_type = String)]
    pub id: AuditId,
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The audited lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// The worker's rank.
    pub rank: u32,
    /// The worker's machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// The machine's owner.
    #[schema(value_type = String)]
    pub lender: AccountId,
    /// The number of the receipt that is audited.
    pub sequence: u32,
    /// Rounds of the job that were done before that receipt, and with it.
    #[schema(value_type = Vec<u64>)]
    pub rounds: (u64, u64),
    /// The round that was drawn; none until the worker opened it.
    pub round: Option<u64>,
    /// The place of its commitment among all that the worker made.
    pub index: u64,
    /// How it stands.
    #[schema(value_type = Object)]
    pub state: AuditState,
    /// How it stands, in words.
    pub status: String,
    /// When it was drawn.
    #[schema(value_type = u64)]
    pub drawn: TimeMs,
    /// When its state began.
    #[schema(value_type = u64)]
    pub since: TimeMs,
    /// When it was closed.
    #[schema(value_type = Option<u64>)]
    pub closed: Option<TimeMs>,
    /// All auditors that it was given to, in order.
    pub auditors: Vec<AuditorView>,
    /// The first step on which worker and auditors disagree, in a dispute.
    pub disputed_step: Option<u32>,
    /// Validators that computed this step.
    pub judgements: u32,
}

impl AuditView {
    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, AuditState::Closed(_))
    }
}

/// One auditor of an [`AuditView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditorView {
    /// The machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// Its owner.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// Is it of the worker's determinism class?
    pub same_class: bool,
    /// What it found; none while it computes.
    pub finding: Option<FindingView>,
    /// Has it shown its answer?
    pub shown: bool,
    /// Its answer turned out to be wrong.
    pub is_false: bool,
    /// It couldn't say, or didn't answer in time.
    pub is_excused: bool,
    /// What it was paid.
    #[schema(value_type = u64)]
    pub paid: Credits,
}

/// What an auditor found, without its hidden answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingView {
    /// The worker's answer is its own.
    Equal,
    /// Its own answer is another one.
    Different,
    /// The round's inputs aren't there, or contradict the chain.
    Unusable,
    /// It can't say.
    Unable,
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> FindingView {
        match finding {
            Finding::Equal { .. } => FindingView::Equal,
            Finding::Different { .. } => FindingView::Different,
            Finding::Unusable => FindingView::Unusable,
            Finding::Unable => FindingView::Unable,
        }
    }
}

/// Something to do in an audit: of a machine (`GET /v1/machines/{id}/audits`, by number) or of any validator's helper
/// (`GET /v1/audits/duties`). It holds all that doing it needs, beside the blobs and the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditDuty {
    /// The audit.
    #[schema(value_type = String)]
    pub audit: AuditId,
    /// What is to be done.
    pub task: AuditTask,
    /// Until when.
    #[schema(value_type = u64)]
    pub deadline: TimeMs,
    /// The job.
    #[schema(value_type = String)]
    pub job: JobId,
    /// The audited lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// Its rank.
    pub rank: u32,
    /// The worker's machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// The number of the audited receipt.
    pub sequence: u32,
    /// The place of the audited round's commitment among all of the lease.
    pub index: u64,
    /// Committed rounds before the receipt, and with it.
    #[schema(value_type = Vec<u64>)]
    pub committed: (u64, u64),
    /// The root of the commitments with it.
    #[schema(value_type = String)]
    pub commitments: Hash,
    /// Rounds of the job that were done before the receipt, and with it.
    #[schema(value_type = Vec<u64>)]
    pub rounds: (u64, u64),
    /// Samples since the lease began, before the receipt and with it.
    #[schema(value_type = Vec<u64>)]
    pub samples: (u64, u64),
    /// Hash of the parameters at the receipt before (none for the first one), and at this one.
    #[schema(value_type = Vec<Object>)]
    pub parameters: (Option<Hash>, Hash),
    /// Of an auditor: is its machine of the worker's determinism class? True otherwise.
    pub same_class: bool,
    /// What the audited lease may use: what computing its round again may use too.
    #[schema(value_type = Object)]
    pub resources: Resources,
    /// Canonical bytes of the job spec, in hex.
    pub spec: String,
    /// Fixed by the chain when the job was matched; decides the order of the data.
    #[schema(value_type = String)]
    pub seed: Hash,
    /// The ranks with which the job began: its schedule is made for so many.
    pub world: u32,
    /// The job's leases until now, by rank: who can have been in the team. Rank and lease.
    #[schema(value_type = Vec<Object>)]
    pub leases: Vec<(u32, LeaseId)>,
    /// What the worker opened; none while it is to be.
    pub disclosed: Option<DisclosedView>,
    /// Of an auditor: what it has said already, as it stands on the chain.
    #[schema(value_type = Option<Object>)]
    pub finding: Option<Finding>,
    /// The worker's steps: for the accusing auditor, and for a judge.
    #[schema(value_type = Option<Object>)]
    pub worker_trace: Option<RoundTrace>,
    /// For a judge: the step to compute.
    pub disputed: Option<DisputedStep>,
}

/// What is to be done in an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditTask {
    /// Open the commitment and hand over the round's inputs: the worker.
    Disclose,
    /// Compute the round and say what it gave, hidden: an auditor.
    Compute,
    /// Show the answer: an auditor.
    Reveal,
    /// Show the steps: the worker, then the accusing auditor.
    Trace,
    /// Compute the disputed step: a validator's helper.
    Judge,
}

/// What a worker opened, as an auditor needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisclosedView {
    /// The audited round's commitment.
    #[schema(value_type = Object)]
    pub commitment: RoundCommitment,
    /// The salt of its seal.
    #[schema(value_type = String)]
    pub salt: Hash,
    /// The blob of the round's inputs.
    #[schema(value_type = String)]
    pub evidence: Hash,
}

/// The first step on which a worker and an auditor disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisputedStep {
    /// Its number within the round, from 0.
    pub step: u32,
    /// Hash of the state before it, on which both agree; none for the first step, which begins where the evidence leads.
    #[schema(value_type = Option<String>)]
    pub before: Option<Hash>,
    /// The state after it by the worker's word; none where its list is shorter.
    #[schema(value_type = Option<String>)]
    pub worker: Option<Hash>,
    /// The state after it by the auditor's word; none where its list is shorter.
    #[schema(value_type = Option<String>)]
    pub auditor: Option<Hash>,
    /// The blob of the state before it; none for the first step.
    #[schema(value_type = Option<String>)]
    pub state: Option<Hash>,
}

/// One receipt of a job as the chain accepted it: `GET /v1/jobs/{id}/receipts`, newest first. What it adds to the worker's receipt
/// before is a *window*: its rounds may be audited, and its pay is held until it vests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The block.
    #[schema(value_type = u64)]
    pub height: Height,
    /// The event's number in the block: with the height the receipt's place in the job's history.
    pub index: u32,
    /// The block's time.
    #[schema(value_type = u64)]
    pub time: TimeMs,
    /// The transaction.
    #[schema(value_type = String)]
    pub transaction: Hash,
    /// The lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// The worker's rank.
    pub rank: u32,
    /// The worker's machine.
    #[schema(value_type = String)]
    pub machine: MachineId,
    /// The receipt's number within the lease, from 1.
    pub sequence: u32,
    /// Rounds of the job that are done with it.
    pub rounds: u64,
    /// Rounds that the worker has committed to with it.
    pub committed: u64,
    /// The root of all these commitments.
    #[schema(value_type = String)]
    pub commitments: Hash,
    /// Hash of the parameters after the last round.
    #[schema(value_type = String)]
    pub parameters: Hash,
    /// Samples since the lease began.
    pub samples: u64,
    /// What it released.
    #[schema(value_type = u64)]
    pub payout: Credits,
    /// What is held of its window; none once that vested or was lost, and in a market without audits.
    pub held: Option<HeldView>,
}

/// A window whose pay is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// What is held.
    #[schema(value_type = u64)]
    pub pay: Credits,
    /// When it vests, if no audit of the machine is open then and none finds anything.
    #[schema(value_type = u64)]
    pub vests: TimeMs,
    /// Did it go through the draw of audits?
    pub is_drawn: bool,
}

/// A decided block with the proof that it was decided, as [`chain_bytes`] strings them together: `GET /v1/blocks/raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBlock {
    /// The block's canonical bytes.
    pub block: Vec<u8>,
    /// The canonical bytes of its commit certificate.
    pub certificate: Vec<u8>,
}

/// Canonical bytes of some blocks, one after the other.
pub fn chain_bytes(blocks: Vec<RawBlock>) -> Vec<u8> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = blocks.into_iter().map(|raw| (raw.block, raw.certificate)).collect();
    deepmarket_types::encode(&pairs)
}

/// Reads what [`chain_bytes`] wrote.
pub fn read_chain_bytes(bytes: &[u8]) -> Result<Vec<RawBlock>, deepmarket_types::FormError> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = deepmarket_types::decode(bytes)?;
    Ok(pairs.into_iter().map(|(block, certificate)| RawBlock { block, certificate }).collect())
}

/// The most bytes of blocks and certificates in one answer; one block may be more than that.
pub const MAX_CHAIN_BYTES: usize = 4 * 1024 * 1024;
