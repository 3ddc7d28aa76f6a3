//! What is known about a job's work: which worker committed to what, which of it other machines computed again, and what became
//! of the pay.
//!
//! ```text
//! receipts ─▶ windows ─┐
//! audits ──────────────┼─▶ Verification ─▶ a sentence, a table
//! history (vested) ────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use deepmarket_api::{AuditView, Client, FindingView, HistoryEntry, JobView, ReceiptView};
use deepmarket_types::{
    AuditId, AuditState, AuditVerdict, Credits, Event, Hash, Height, JobId, LeaseId, MachineId, Posting, TimeMs,
};
use serde::Serialize;

use crate::{failure::Outcome, jobs};

/// What one receipt added, and what was found about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The lease.
    pub lease: LeaseId,
    /// The worker's rank.
    pub rank: u32,
    /// The worker's machine.
    pub machine: MachineId,
    /// The receipt's number.
    pub sequence: u32,
    /// The block that holds the receipt.
    pub height: Height,
    /// That block's time.
    pub time: TimeMs,
    /// The receipt's transaction.
    pub transaction: Hash,
    /// Rounds of the job that were done before it, and with it.
    pub rounds: (u64, u64),
    /// Rounds that the worker had committed to before it, and with it.
    pub committed: (u64, u64),
    /// The root of these commitments.
    pub commitments: Hash,
    /// Hash of the parameters with it.
    pub parameters: Hash,
    /// Samples that it adds.
    pub samples: u64,
    /// What it released.
    pub payout: Credits,
    /// What became of that.
    pub pay: Pay,
    /// Did it go through the draw of audits? None where that isn't known any more.
    pub is_drawn: Option<bool>,
    /// Audits of it.
    pub audits: Vec<AuditId>,
}

impl Window {
    /// Does it have rounds that could be audited?
    pub fn has_commitments(&self) -> bool {
        self.committed.1 > self.committed.0
    }
}

/// What became of a receipt's pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Pay {
    /// It released nothing.
    None,
    /// It is held.
    Held {
        /// When it vests, if no audit is open then and none finds anything.
        vests: TimeMs,
    },
    /// The lender has it.
    Vested,
    /// The lender lost it.
    Lost,
}

/// How many windows and audits stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Windows with commitments.
    pub windows: usize,
    /// Committed rounds.
    pub rounds: u64,
    /// Windows that are, or were, audited.
    pub audited: usize,
    /// Windows that the draw is still to come for.
    pub undrawn: usize,
    /// Audits that found the work right.
    pub passed: usize,
    /// Audits that found it false.
    pub wrong: usize,
    /// Audits in which the worker said nothing.
    pub silent: usize,
    /// Audits that came to nothing.
    pub void: usize,
    /// Audits that go on.
    pub open: usize,
}

/// What is known about a job's work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The job.
    pub job: JobId,
    /// So many of a thousand windows are audited at least.
    pub audit_permille: u32,
    /// What was paid for audits.
    pub fees: Credits,
    /// What is held of the lenders' pay.
    pub held: Credits,
    /// When the last of that vests.
    pub vests: Option<TimeMs>,
    /// What lenders lost.
    pub forfeited: Credits,
    /// In numbers.
    pub counts: Counts,
    /// Every receipt's window, by worker and number.
    pub windows: Vec<Window>,
    /// All audits.
    pub audits: Vec<AuditView>,
}

/// Asks the market. The word of a gateway: `deepmarket chain verify` takes nobody's.
pub async fn fetch(client: &Client, job: JobId) -> Outcome<Verification> {
    let view = jobs::fetch(client, job).await?;
    // In this order: what vests in between is told as held, and never as lost.
    let receipts = client.receipts(job).await?;
    let audits = client.audits(job).await?;
    let history = jobs::history(client, job).await?;
    Ok(Verification::of(&view, receipts, audits, &history))
}

impl Verification {
    /// Puts together what a market tells of a job: receipts oldest first.
    pub fn of(job: &JobView, receipts: Vec<ReceiptView>, audits: Vec<AuditView>, history: &[HistoryEntry]) -> Verification {
        let vested: BTreeSet<(LeaseId, u32)> = history.iter().filter_map(|entry| vested(&entry.event)).collect();
        let mut of_window: BTreeMap<(LeaseId, u32), Vec<AuditId>> = BTreeMap::new();
        for audit in &audits {
            of_window.entry((audit.lease, audit.sequence)).or_default().push(audit.id);
        }
        let mut last: BTreeMap<LeaseId, ReceiptView> = BTreeMap::new();
        let mut windows: Vec<Window> = Vec::new();
        for receipt in receipts {
            let key = (receipt.lease, receipt.sequence);
            let before = last.get(&receipt.lease).map_or((0, 0, 0), |r| (r.rounds, r.committed, r.samples));
            windows.push(Window {
                lease: receipt.lease,
                rank: receipt.rank,
                machine: receipt.machine,
                sequence: receipt.sequence,
                height: receipt.height,
                time: receipt.time,
                transaction: receipt.transaction,
                rounds: (before.0, receipt.rounds),
                committed: (before.1, receipt.committed),
                commitments: receipt.commitments,
                parameters: receipt.parameters,
                samples: receipt.samples.saturating_sub(before.2),
                payout: receipt.payout,
                pay: match receipt.held {
                    _ if receipt.payout.is_zero() => Pay::None,
                    Some(held) => Pay::Held { vests: held.vests },
                    None if vested.contains(&key) => Pay::Vested,
                    None => Pay::Lost,
                },
                is_drawn: receipt.held.map(|held| held.is_drawn),
                audits: of_window.remove(&key).unwrap_or_default(),
            });
            last.insert(receipt.lease, receipt);
        }
        windows.sort_by_key(|window| (window.rank, window.lease, window.sequence));
        let held_until = |window: &Window| if let Pay::Held { vests } = window.pay { Some(vests) } else { None };
        Verification {
            job: job.id,
            audit_permille: job.audit_permille,
            fees: job.fees,
            held: job.leases.iter().map(|lease| lease.held).sum(),
            vests: windows.iter().filter_map(held_until).max(),
            forfeited: job.leases.iter().map(|lease| lease.forfeited).sum(),
            counts: count(&windows, &audits),
            windows,
            audits,
        }
    }

    /// Is work of this job audited at all?
    pub fn is_audited(&self) -> bool {
        self.audit_permille > 0 || !self.audits.is_empty()
    }

    /// Can it still change: audits go on, or windows are still to be drawn?
    pub fn is_open(&self) -> bool {
        self.is_audited() && (self.counts.open > 0 || self.counts.undrawn > 0)
    }

    /// An audit of it.
    pub fn audit(&self, id: AuditId) -> Option<&AuditView> {
        self.audits.iter().find(|audit| audit.id == id)
    }

    /// What was found, in one sentence.
    pub fn sentence(&self) -> String {
        self.counts.sentence(self.is_audited())
    }
}

impl Counts {
    /// What was found, in one sentence; of a job whose work is, or isn't, audited.
    pub fn sentence(&self, is_audited: bool) -> String {
        let Counts { windows, audited, undrawn, passed, wrong, silent, void, open, .. } = *self;
        if !is_audited {
            return "the work of this job isn't audited".into();
        }
        if windows == 0 {
            return "nothing was committed to yet".into();
        }
        let mut parts = Vec::new();
        let mut part = |count: usize, words: &str| {
            if count > 0 {
                parts.push(format!("{count} {words}"));
            }
        };
        part(passed, "equal");
        part(wrong, "FALSE");
        part(silent, "not shown by the worker");
        part(void, "without an outcome");
        part(open, "still open");
        let found = match (passed, wrong + silent + void + open) {
            (0, 0) => String::new(),
            (1, 0) => ": equal".into(),
            (_, 0) => ": all equal".into(),
            _ => format!(": {}", parts.join(", ")),
        };
        let what = match passed + wrong == audited {
            true => "computed again by other machines",
            false => "drawn to be computed again by other machines",
        };
        let mut text = format!("{audited} of {windows} windows were {what}{found}");
        if undrawn > 0 {
            text += &format!("; {undrawn} are still to be drawn");
        }
        text
    }
}

/// How many windows and audits stand how, from a job's history, oldest first: a shorter look than [`fetch`]'s. It doesn't tell
/// which windows are still to be drawn.
pub fn counts(audits: &[AuditView], history: &[HistoryEntry]) -> Counts {
    let (mut counts, mut done) = (Counts::default(), BTreeMap::new());
    for entry in history {
        let Event::Receipt { lease, rounds, .. } = &entry.event else { continue };
        let before = done.insert(*lease, *rounds).unwrap_or(0);
        counts.windows += usize::from(*rounds > before);
    }
    let windows: BTreeSet<(LeaseId, u32)> = audits.iter().map(|audit| (audit.lease, audit.sequence)).collect();
    counts.audited = windows.len();
    counts.with(audits)
}

impl Counts {
    /// With the audits' verdicts.
    fn with(self, audits: &[AuditView]) -> Counts {
        let closed = |wanted: AuditVerdict| audits.iter().filter(|audit| audit.state == AuditState::Closed(wanted)).count();
        Counts {
            passed: closed(AuditVerdict::Passed),
            wrong: closed(AuditVerdict::False),
            silent: closed(AuditVerdict::Silent),
            void: closed(AuditVerdict::Void),
            open: audits.iter().filter(|audit| !audit.is_closed()).count(),
            ..self
        }
    }
}

fn vested(event: &Event) -> Option<(LeaseId, u32)> {
    match event {
        Event::Posted { cause: Posting::Payout { lease, sequence, .. }, .. } => Some((*lease, *sequence)),
        _ => None,
    }
}

fn count(windows: &[Window], audits: &[AuditView]) -> Counts {
    let auditable = || windows.iter().filter(|window| window.has_commitments());
    let counts = Counts {
        windows: auditable().count(),
        rounds: auditable().map(|window| window.committed.1 - window.committed.0).sum(),
        audited: auditable().filter(|window| !window.audits.is_empty()).count(),
        undrawn: auditable().filter(|window| window.is_drawn == Some(false) && window.audits.is_empty()).count(),
        ..Counts::default()
    };
    counts.with(audits)
}

/// What an auditor found, in a word.
pub fn finding(finding: FindingView) -> &'static str {
    match finding {
        FindingView::Equal => "equal",
        FindingView::Different => "different",
        FindingView::Unusable => "inputs unusable",
        FindingView::Unable => "unable",
    }
}

/// An audit's verdict in a word; of an open one what it waits for.
pub fn verdict(state: AuditState) -> &'static str {
    match state {
        AuditState::Disclosing => "open: inputs",
        AuditState::Waiting => "open: waits",
        AuditState::Computing => "open: computing",
        AuditState::Revealing => "open: answers",
        AuditState::Tracing => "disputed: steps",
        AuditState::Judging => "disputed: judged",
        AuditState::Closed(AuditVerdict::Passed) => "equal",
        AuditState::Closed(AuditVerdict::False) => "FALSE",
        AuditState::Closed(AuditVerdict::Silent) => "not shown",
        AuditState::Closed(AuditVerdict::Void) => "no outcome",
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_api::{HeldView, LeaseView};
    use deepmarket_types::{AccountId, JobReason, JobState, LeaseState, Purse};

    use super::*;

    const MACHINE: MachineId = MachineId([2; 20]);

    fn lease() -> LeaseView {
        LeaseView {
            id: LeaseId(1),
            job: JobId(3),
            rank: 0,
            machine: MACHINE,
            owner: AccountId([1; 20]),
            state: LeaseState::Active,
            started: TimeMs(0),
            sequence: 4,
            rounds: 40,
            samples: 400,
            cpu_ms: 1,
            paid: Credits::from_micro(40),
            held: Credits::from_micro(10),
            forfeited: Credits::from_micro(10),
            paid_ms: 4_000,
            parameters: None,
        }
    }

    fn job() -> JobView {
        JobView {
            id: JobId(3),
            owner: AccountId([1; 20]),
            name: "mnist".into(),
            state: JobState::Running,
            status: String::new(),
            why: JobReason::Preparing,
            reason: String::new(),
            spec: String::new(),
            submitted: TimeMs(0),
            started: None,
            ended: None,
            budget: Credits::ZERO,
            escrow: Credits::ZERO,
            paid: Credits::ZERO,
            fees: Credits::from_micro(4),
            audit_permille: 100,
            leases: vec![lease()],
            result: None,
            checkpoint: None,
            generation: 1,
            members: vec![],
            failures: 0,
        }
    }

    fn receipt(sequence: u32, held: Option<bool>) -> ReceiptView {
        let total = u64::from(sequence);
        let held = held.map(|is_drawn| HeldView { pay: Credits::from_micro(10), vests: TimeMs(900 + total), is_drawn });
        ReceiptView {
            height: Height(total),
            index: 0,
            time: TimeMs(total),
            transaction: Hash::of(&[sequence as u8]),
            lease: LeaseId(1),
            rank: 0,
            machine: MACHINE,
            sequence,
            rounds: 10 * total,
            committed: 10 * total,
            commitments: Hash::of(b"root"),
            parameters: Hash::of(b"parameters"),
            samples: 100 * total,
            payout: Credits::from_micro(10),
            held,
        }
    }

    fn audit(id: u64, sequence: u32, state: AuditState) -> AuditView {
        AuditView {
            id: AuditId(id),
            job: JobId(3),
            lease: LeaseId(1),
            rank: 0,
            machine: MACHINE,
            lender: AccountId([1; 20]),
            sequence,
            rounds: (0, 10),
            round: Some(3),
            index: 3,
            state,
            status: state.to_string(),
            drawn: TimeMs(0),
            since: TimeMs(0),
            closed: None,
            auditors: vec![],
            disputed_step: None,
            judgements: 0,
        }
    }

    fn paid_out(sequence: u32) -> HistoryEntry {
        let event = Event::Posted {
            account: AccountId([1; 20]),
            purse: Purse::Earned,
            amount: Credits::from_micro(10),
            balance: Credits::from_micro(10),
            incoming: true,
            cause: Posting::Payout { job: JobId(3), lease: LeaseId(1), machine: MACHINE, sequence },
        };
        HistoryEntry { height: Height(9), time: TimeMs(9), index: 0, transaction: None, event }
    }

    #[test]
    fn every_window_says_what_it_adds_what_was_found_and_what_became_of_its_pay() {
        // The second receipt was lost on its way: the third one's window covers its rounds too.
        let receipts = vec![receipt(1, None), receipt(3, None), receipt(4, Some(false)), receipt(5, Some(true))];
        let passed = AuditState::Closed(AuditVerdict::Passed);
        let audits = vec![audit(1, 1, passed), audit(2, 5, AuditState::Computing)];
        let found = Verification::of(&job(), receipts, audits, &[paid_out(1)]);
        let told: Vec<_> = found.windows.iter().map(|w| (w.sequence, w.rounds, w.committed, w.samples, w.pay)).collect();
        assert_eq!(
            told,
            [
                (1, (0, 10), (0, 10), 100, Pay::Vested),
                (3, (10, 30), (10, 30), 200, Pay::Lost),
                (4, (30, 40), (30, 40), 100, Pay::Held { vests: TimeMs(904) }),
                (5, (40, 50), (40, 50), 100, Pay::Held { vests: TimeMs(905) }),
            ]
        );
        assert_eq!(found.windows[0].audits, [AuditId(1)]);
        assert_eq!((found.held.micro(), found.forfeited.micro(), found.vests), (10, 10, Some(TimeMs(905))));
        let counts = found.counts;
        assert_eq!((counts.windows, counts.rounds, counts.audited, counts.undrawn), (4, 50, 2, 1));
        assert!(found.is_open());
        assert_eq!(
            found.sentence(),
            "2 of 4 windows were drawn to be computed again by other machines: 1 equal, 1 still open; 1 are still to be drawn"
        );
    }

    #[test]
    fn a_sentence_says_whether_all_was_equal() {
        let closed = |verdict| AuditState::Closed(verdict);
        let found = |audits: Vec<AuditView>| {
            let receipts = vec![receipt(1, Some(true)), receipt(2, Some(true))];
            Verification::of(&job(), receipts, audits, &[]).sentence()
        };
        let passed = closed(AuditVerdict::Passed);
        assert_eq!(found(vec![]), "0 of 2 windows were computed again by other machines");
        assert_eq!(found(vec![audit(1, 1, passed)]), "1 of 2 windows were computed again by other machines: equal");
        let both = vec![audit(1, 1, passed), audit(2, 2, passed)];
        assert_eq!(found(both), "2 of 2 windows were computed again by other machines: all equal");
        let one_false = vec![audit(1, 1, passed), audit(2, 2, closed(AuditVerdict::False))];
        assert_eq!(found(one_false), "2 of 2 windows were computed again by other machines: 1 equal, 1 FALSE");
        let mut unaudited = job();
        unaudited.audit_permille = 0;
        let unaudited = Verification::of(&unaudited, vec![receipt(1, None)], vec![], &[]);
        assert_eq!((unaudited.sentence().as_str(), unaudited.is_open()), ("the work of this job isn't audited", false));
    }
}
