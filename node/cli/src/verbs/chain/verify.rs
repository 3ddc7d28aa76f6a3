//! Checks a chain on this machine, from its genesis document alone. A gateway only hands over the blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use deepmarket_api::JobView;
use deepmarket_consensus::replay::{Replay, ReplayError, Replayed};
use deepmarket_genesis::Genesis;
use deepmarket_types::{
    Action, AuditId, AuditState, AuditVerdict, ChainId, CommitmentPlace, Credits, Disclosure, Event, Hash, Height, JobId,
    LeaseId, Posting, Receipt, TimeMs,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    error::{Failure, Outcome, io},
    output::{self, credits},
    settings::Settings,
};

/// What `chain verify` prints with `--json`.
#[derive(Serialize)]
struct Report {
    /// Did everything hold?
    verified: bool,
    /// The chain: the hash of the genesis document.
    chain: ChainId,
    /// Was the genesis document the user's own, and not the gateway's?
    own_genesis: bool,
    /// Blocks that were checked and applied again, all from the first one.
    blocks: u64,
    /// The last one.
    tip: Hash,
    /// Its time.
    time: TimeMs,
    /// The state after it, as it was computed here.
    state_root: Hash,
    /// Signatures of validators that were checked.
    certificate_signatures: u64,
    /// Transactions whose signatures were checked.
    transactions: u64,
    /// Receipts that the chain accepted.
    receipts: u64,
    /// Openings of commitments that were checked against their roots.
    openings: u64,
    /// Closed audits by verdict: passed, false, silent, void.
    audits: [u64; 4],
    /// Do the totals add up?
    conserved: bool,
    /// What was found about one job.
    job: Option<JobReport>,
    /// What didn't hold.
    problems: Vec<String>,
}

/// All that the chain says about one job's work and pay.
#[derive(Serialize)]
struct JobReport {
    job: JobId,
    state: String,
    /// Of all workers.
    receipts: u64,
    workers: Vec<WorkerReport>,
    /// What the receipts released.
    paid: Credits,
    /// What was paid on top for audits.
    fees: Credits,
    /// What of the pay went to purses.
    vested: Credits,
    /// What is held of it.
    held: Credits,
    /// What of it was lost.
    forfeited: Credits,
    audits: [u64; 4],
    open_audits: u64,
    openings: u64,
}

/// One worker's receipts.
#[derive(Serialize)]
struct WorkerReport {
    lease: LeaseId,
    rank: u32,
    receipts: u64,
    rounds: u64,
    committed: u64,
    commitments: Option<Hash>,
    samples: u64,
    paid: Credits,
    vested: Credits,
    held: Credits,
    forfeited: Credits,
}

pub async fn run(settings: &Settings, job: Option<JobId>, genesis: Option<&Path>) -> Outcome {
    let client = settings.client()?;
    let text = match genesis {
        Some(path) => fs::read_to_string(path).map_err(io(path.display()))?,
        None => client.genesis().await?,
    };
    let document = Genesis::from_toml(&text).map_err(|e| Failure::user(format!("the genesis document: {e}")))?;
    let mut replay = Replay::new(&document).map_err(Failure::user)?;
    let status = client.status().await?;
    if status.chain != document.chain_id() {
        return Err(Failure::user(format!("the gateway serves the chain {}, not {}", status.chain, document.chain_id()))
            .with_hint("name a gateway of this market: --gateway"));
    }
    if let Some(job) = job {
        deepmarket_wallet::jobs::fetch(&client, job).await?;
    }
    let bar = bar(status.height);
    let mut notes = Notes::new(document.chain_id());
    while replay.ledger().height() < status.height {
        let blocks = client.raw_blocks(replay.ledger().height().next()).await?;
        if blocks.is_empty() {
            return Err(Failure::environment(format!("the gateway has no block {}", replay.ledger().height().next()))
                .with_hint("ask another one: --gateway"));
        }
        for raw in blocks {
            let lie = |e: ReplayError| {
                Failure::environment(format!("NOT VERIFIED: {e}")).with_hint("what this gateway tells isn't this chain")
            };
            let block = replay.next(&raw.block, &raw.certificate).map_err(lie)?;
            notes.take(&block, |id| replay.ledger().audit(id).map(|audit| (audit.lease, audit.sequence, audit.index)));
        }
        bar.set_position(replay.ledger().height().0);
    }
    bar.finish_and_clear();

    let ledger = replay.ledger();
    let mut report = Report {
        verified: false,
        chain: document.chain_id(),
        own_genesis: genesis.is_some(),
        blocks: ledger.height().0,
        tip: ledger.tip(),
        time: ledger.time(),
        state_root: replay.state_root(),
        certificate_signatures: notes.signatures,
        transactions: notes.transactions,
        receipts: notes.receipts.values().map(|receipts| receipts.len() as u64).sum(),
        openings: notes.openings.values().sum(),
        audits: verdicts(notes.audits.values().map(|(_, state)| *state)),
        conserved: ledger.totals().conserved(),
        job: job.map(|job| about(&replay, &notes, job)),
        problems: notes.problems,
    };
    if !report.conserved {
        report.problems.push("the ledger's totals don't add up".into());
    }
    if let Some(found) = &report.job {
        report.problems.extend(disagreements(found, client.job(found.job).await?.as_ref()));
    }
    report.verified = report.problems.is_empty();
    settings.output.show(&report, || describe(&report))?;
    if !report.verified {
        return Err(Failure::environment(format!("NOT VERIFIED: {}", report.problems.join("; "))));
    }
    match job {
        Some(job) => settings.output.next(format!("deepmarket job verify {job} shows which windows were audited, and by whom")),
        None => settings.output.next("deepmarket chain verify --job JOB also shows a job's receipts and audits"),
    }
    Ok(())
}

fn bar(height: Height) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:18} {bar:40} {pos:>8} of {len} blocks").expect("a fixed template");
    let bar = ProgressBar::new(height.0).with_message("checking").with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// What is noted of each block. What the ledger's rules ask for was checked when the block was applied; what is found out here again
/// doesn't rely on them.
struct Notes {
    chain: ChainId,
    signatures: u64,
    transactions: u64,
    /// The accepted receipts of each lease, in order.
    receipts: BTreeMap<LeaseId, Vec<Receipt>>,
    /// What the receipts of each lease released, and what went to purses of it.
    paid: BTreeMap<LeaseId, (Credits, Credits)>,
    /// Each audit's lease and its last state.
    audits: BTreeMap<AuditId, (LeaseId, AuditState)>,
    /// Openings that were checked, by lease.
    openings: BTreeMap<LeaseId, u64>,
    problems: Vec<String>,
}

impl Notes {
    fn new(chain: ChainId) -> Notes {
        Notes {
            chain,
            signatures: 0,
            transactions: 0,
            receipts: BTreeMap::new(),
            paid: BTreeMap::new(),
            audits: BTreeMap::new(),
            openings: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// `place` says of which lease, receipt and commitment an audit is.
    fn take(&mut self, block: &Replayed, place: impl Fn(AuditId) -> Option<(LeaseId, u32, u64)>) {
        self.signatures += block.signers as u64;
        self.transactions += block.block.transactions.len() as u64;
        for transaction in block.accepted() {
            match &transaction.body.action {
                Action::Receipt(receipt) => self.receipt(receipt),
                Action::Disclose(disclosure) => self.disclosure(disclosure, place(disclosure.audit)),
                _ => {}
            }
        }
        for event in &block.events {
            match event {
                Event::Receipt { lease, payout, .. } => add(&mut self.paid.entry(*lease).or_default().0, *payout),
                Event::Posted { cause: Posting::Payout { lease, .. }, amount, .. } => {
                    add(&mut self.paid.entry(*lease).or_default().1, *amount);
                }
                Event::Audit { audit, lease, state, .. } => {
                    self.audits.insert(*audit, (*lease, *state));
                }
                _ => {}
            }
        }
    }

    /// Receipts are numbered, and what they count only grows.
    fn receipt(&mut self, receipt: &Receipt) {
        let receipts = self.receipts.entry(receipt.lease).or_default();
        if let Some(before) = receipts.last() {
            let grows = receipt.rounds >= before.rounds
                && receipt.samples >= before.samples
                && receipt.cpu_ms >= before.cpu_ms
                && receipt.committed >= before.committed;
            if receipt.sequence <= before.sequence || receipt.job != before.job || !grows {
                let (lease, sequence) = (receipt.lease, receipt.sequence);
                self.problems.push(format!("receipt {sequence} of {lease} doesn't follow on number {}", before.sequence));
            }
        }
        receipts.push(*receipt);
    }

    /// What a worker opened is the leaf that was drawn, under the root of the receipt that was drawn.
    fn disclosure(&mut self, disclosure: &Disclosure, place: Option<(LeaseId, u32, u64)>) {
        let id = disclosure.audit;
        let Some((lease, sequence, index)) = place else {
            return self.problems.push(format!("{id} was opened and never drawn"));
        };
        let receipts = self.receipts.get(&lease).map_or(&[][..], Vec::as_slice);
        let is_opened = receipts.iter().find(|receipt| receipt.sequence == sequence).is_some_and(|receipt| {
            let place = CommitmentPlace { chain: self.chain, job: receipt.job, lease, rank: receipt.rank };
            let leaf = disclosure.commitment.leaf(&place);
            disclosure.proof.root(&leaf, index, receipt.committed) == Some(receipt.commitments)
        });
        match is_opened {
            true => *self.openings.entry(lease).or_default() += 1,
            false => self.problems.push(format!("what was opened for {id} is not in receipt {sequence} of {lease}")),
        }
    }
}

fn add(sum: &mut Credits, amount: Credits) {
    *sum = [*sum, amount].into_iter().sum();
}

fn verdicts(states: impl Iterator<Item = AuditState>) -> [u64; 4] {
    let mut counts = [0; 4];
    for state in states {
        match state {
            AuditState::Closed(AuditVerdict::Passed) => counts[0] += 1,
            AuditState::Closed(AuditVerdict::False) => counts[1] += 1,
            AuditState::Closed(AuditVerdict::Silent) => counts[2] += 1,
            AuditState::Closed(AuditVerdict::Void) => counts[3] += 1,
            _ => {}
        }
    }
    counts
}

/// What the chain says about a job.
fn about(replay: &Replay, notes: &Notes, id: JobId) -> JobReport {
    let ledger = replay.ledger();
    let mut workers = Vec::new();
    for lease in ledger.job_leases(id) {
        let receipts = notes.receipts.get(&lease.id).map_or(&[][..], Vec::as_slice);
        let (paid, vested) = notes.paid.get(&lease.id).copied().unwrap_or_default();
        let last = receipts.last();
        workers.push(WorkerReport {
            lease: lease.id,
            rank: lease.rank,
            receipts: receipts.len() as u64,
            rounds: last.map_or(0, |receipt| receipt.rounds),
            committed: last.map_or(0, |receipt| receipt.committed),
            commitments: last.map(|receipt| receipt.commitments),
            samples: last.map_or(0, |receipt| receipt.samples),
            paid,
            vested,
            held: lease.held,
            forfeited: lease.forfeited,
        });
    }
    let leases: BTreeSet<LeaseId> = workers.iter().map(|worker| worker.lease).collect();
    let audits: Vec<AuditState> =
        notes.audits.values().filter(|(lease, _)| leases.contains(lease)).map(|(_, state)| *state).collect();
    let closed = verdicts(audits.iter().copied());
    let sum = |part: fn(&WorkerReport) -> Credits| workers.iter().map(part).sum::<Credits>();
    JobReport {
        job: id,
        state: ledger.job(id).map_or_else(|| "unknown".into(), |job| job.state.to_string()),
        receipts: workers.iter().map(|worker| worker.receipts).sum(),
        paid: sum(|worker| worker.paid),
        fees: ledger.job(id).map_or(Credits::ZERO, |job| job.fees),
        vested: sum(|worker| worker.vested),
        held: sum(|worker| worker.held),
        forfeited: sum(|worker| worker.forfeited),
        audits: closed,
        open_audits: audits.len() as u64 - closed.iter().sum::<u64>(),
        openings: leases.iter().filter_map(|lease| notes.openings.get(lease)).sum(),
        workers,
    }
}

/// Where the chain's numbers don't add up, or aren't what the gateway says of the job.
fn disagreements(found: &JobReport, told: Option<&JobView>) -> Vec<String> {
    let mut problems = Vec::new();
    for worker in &found.workers {
        let WorkerReport { lease, paid, vested, held, forfeited, .. } = *worker;
        if paid != [vested, held, forfeited].into_iter().sum::<Credits>() {
            problems
                .push(format!("{lease} was paid {paid}, of which {vested} vested, {held} are held and {forfeited} were lost"));
        }
    }
    let Some(told) = told else { return [problems, vec![format!("the gateway knows no {}", found.job)]].concat() };
    // An open job may have gone on since the last block that was checked.
    if told.state.is_closed() && found.state == told.status {
        let computed: u64 = found.workers.iter().map(|worker| worker.samples).sum();
        let samples: u64 = told.leases.iter().map(|lease| lease.samples).sum();
        if (found.paid, found.fees, computed) != (told.paid, told.fees, samples) {
            problems.push(format!("the gateway says that {} paid {} and {} for audits", found.job, told.paid, told.fees));
        }
    }
    problems
}

fn describe(report: &Report) -> String {
    let [passed, wrong, silent, void] = report.audits;
    let genesis =
        if report.own_genesis { "the document that you named" } else { "as the gateway gave it: compare the chain's id" };
    let rows = [
        ("chain", report.chain.to_string()),
        ("genesis", genesis.to_owned()),
        ("blocks", format!("{}, each decided by a quorum ({} signatures checked)", report.blocks, report.certificate_signatures)),
        ("transactions", format!("{}, each signature checked, each applied again by the rules", report.transactions)),
        ("state", format!("equal to what the validators signed, up to {}", report.state_root)),
        ("receipts", format!("{}, numbered and growing", report.receipts)),
        ("opened commitments", format!("{}, each under its receipt's root", report.openings)),
        ("audits", format!("{passed} passed, {wrong} false, {silent} silent, {void} void")),
        ("ledger", if report.conserved { "conserved" } else { "NOT CONSERVED" }.to_owned()),
    ];
    let verdict = match report.problems.is_empty() {
        true => format!("VERIFIED up to block {} of {}", report.blocks, output::time(report.time)),
        false => format!("NOT VERIFIED:\n  {}", report.problems.join("\n  ")),
    };
    let job = report.job.as_ref().map(describe_job).unwrap_or_default();
    format!(
        "{}\n{job}{verdict}",
        output::table(&["checked here", ""], &[], rows.map(|(name, value)| vec![name.to_owned(), value]))
    )
}

fn describe_job(found: &JobReport) -> String {
    let rows = found.workers.iter().map(|worker| {
        vec![
            worker.rank.to_string(),
            worker.lease.to_string(),
            worker.receipts.to_string(),
            worker.rounds.to_string(),
            worker.committed.to_string(),
            worker.commitments.map_or(String::new(), |root| format!("{}…", &root.to_hex()[..12])),
            worker.samples.to_string(),
            output::aligned(worker.paid),
            output::aligned(worker.vested),
            output::aligned(worker.held),
            output::aligned(worker.forfeited),
        ]
    });
    let header =
        ["rank", "lease", "receipts", "rounds", "committed", "root", "samples", "paid (credits)", "vested", "held", "lost"];
    let [passed, wrong, silent, void] = found.audits;
    format!(
        "{}\n{} is {}: {} receipts paid {}, audits cost {}; {passed} audits passed, {wrong} false, {silent} silent, {void} void, {} open; {} commitments opened\n",
        output::table(&header, &[0, 2, 3, 4, 6, 7, 8, 9, 10], rows),
        found.job,
        found.state,
        found.receipts,
        credits(found.paid),
        credits(found.fees),
        found.open_audits,
        found.openings,
    )
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{LeaseOutcome, MountainRange, RoundCommitment};

    use super::*;

    const CHAIN: ChainId = Hash([7; 32]);
    const PLACE: CommitmentPlace = CommitmentPlace { chain: CHAIN, job: JobId(1), lease: LeaseId(2), rank: 0 };

    fn commitment(round: u64) -> RoundCommitment {
        RoundCommitment { round, samples: 64, total_samples: 64 * (round + 1), sealed: Hash::of(&round.to_le_bytes()) }
    }

    fn leaves(rounds: u64) -> Vec<Hash> {
        (0..rounds).map(|round| commitment(round).leaf(&PLACE)).collect()
    }

    fn receipt(sequence: u32, rounds: u64) -> Receipt {
        let mut range = MountainRange::default();
        leaves(rounds).into_iter().for_each(|leaf| range.push(leaf));
        Receipt {
            job: JobId(1),
            lease: LeaseId(2),
            rank: 0,
            sequence,
            from: 0,
            rounds,
            samples: 64 * rounds,
            cpu_ms: rounds,
            parameters: Hash::default(),
            commitments: range.root(),
            committed: rounds,
            loss_micro: 1,
            checkpoint: None,
            missing: None,
            outcome: LeaseOutcome::Running,
        }
    }

    fn disclosure(audit: u64, round: u64, of: u64) -> Disclosure {
        Disclosure {
            audit: AuditId(audit),
            commitment: commitment(round),
            salt: Hash::default(),
            proof: deepmarket_types::LeafProof::of(&leaves(of), round).unwrap(),
            last: None,
            evidence: Hash::default(),
        }
    }

    #[test]
    fn what_was_opened_must_be_in_a_receipt_and_receipts_must_follow_on_one_another() {
        let mut notes = Notes::new(CHAIN);
        notes.receipt(&receipt(1, 10));
        notes.receipt(&receipt(3, 25));
        assert!(notes.problems.is_empty());
        let drawn = |sequence, index| Some((LeaseId(2), sequence, index));
        notes.disclosure(&disclosure(1, 7, 10), drawn(1, 7));
        notes.disclosure(&disclosure(1, 7, 25), drawn(3, 7));
        notes.disclosure(&disclosure(1, 24, 25), drawn(3, 24));
        assert_eq!((notes.openings[&LeaseId(2)], notes.problems.len()), (3, 0));
        notes.disclosure(&disclosure(1, 7, 10), drawn(3, 7));
        notes.disclosure(&disclosure(1, 7, 25), drawn(3, 8));
        let mut other = disclosure(1, 7, 25);
        other.commitment.samples = 65;
        notes.disclosure(&other, drawn(3, 7));
        notes.disclosure(&disclosure(2, 7, 25), None);
        assert_eq!(notes.problems.len(), 4, "{:?}", notes.problems);
        notes.receipt(&receipt(3, 30));
        notes.receipt(&receipt(4, 20));
        assert_eq!(notes.problems.len(), 6, "{:?}", notes.problems);
    }

    #[test]
    fn pay_is_vested_held_or_lost_and_the_gateways_word_is_compared() {
        let micro = Credits::from_micro;
        let worker = WorkerReport {
            lease: LeaseId(2),
            rank: 0,
            receipts: 2,
            rounds: 10,
            committed: 10,
            commitments: None,
            samples: 640,
            paid: micro(10),
            vested: micro(5),
            held: micro(3),
            forfeited: micro(2),
        };
        let mut found = JobReport {
            job: JobId(1),
            state: "running".into(),
            receipts: 2,
            workers: vec![worker],
            paid: micro(10),
            fees: micro(1),
            vested: micro(5),
            held: micro(3),
            forfeited: micro(2),
            audits: [1, 0, 0, 0],
            open_audits: 0,
            openings: 1,
        };
        assert_eq!(disagreements(&found, None), ["the gateway knows no job-1"]);
        found.workers[0].held = micro(4);
        assert!(disagreements(&found, None)[0].contains("lease-2 was paid 0.00001"), "{:?}", disagreements(&found, None));
    }
}
