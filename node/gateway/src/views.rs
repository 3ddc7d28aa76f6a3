//! From the ledger's state to the shapes of the REST interface. Pure.

use std::cmp::Reverse;

use deepmarket_api::{
    AccountView, Assignment, DayEntry, DayLine, EstimateView, EvaluationRequest, EvaluationView, InviteView, JobView, LeaseView,
    LedgerView, MachineView, PricesView, Quote, RankView, SlotEarningView, SlotQuote, Statement, StatementLine,
};
use deepmarket_job::JobSpec;
use deepmarket_ledger::{Account, Estimate, Invite, Job, Lease, Ledger, Machine};
use deepmarket_types::{Credits, MachineId, PublicKey, SlotClock, SlotPrices, TimeMs};

use crate::chain::DaySum;

pub(crate) mod audits;

/// The most jobs in an account's view.
const ACCOUNT_JOBS: usize = 100;
/// The names of a day's four slots, as job specs write them.
pub(crate) const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];

pub(crate) fn account(ledger: &Ledger, account: &Account) -> AccountView {
    let (held, vests) =
        audits::held_together(ledger, ledger.machines_of(account.id).flat_map(|machine| ledger.machine_windows(machine.id)));
    AccountView {
        id: account.id,
        key: account.key,
        nonce: account.nonce,
        granted: account.granted,
        earned: account.earned,
        escrow: ledger.escrow_of(account.id),
        held,
        vests,
        audits_passed: account.audits_passed,
        strikes: account.strikes,
        barred: ledger.is_barred(account),
        reliability: account.reliability,
        jobs: ledger.jobs_of(account.id).rev().take(ACCOUNT_JOBS).map(|job| job.id).collect(),
        machines: ledger.machines_of(account.id).map(|machine| machine.id).collect(),
    }
}

pub(crate) fn machine(ledger: &Ledger, machine: &Machine) -> MachineView {
    let why = ledger.machine_reason(machine);
    let owner = ledger.account(machine.owner);
    let (held, vests) = audits::held_together(ledger, ledger.machine_windows(machine.id));
    MachineView {
        id: machine.id,
        owner: machine.owner,
        key: machine.key,
        nonce: machine.nonce,
        config: machine.config.clone(),
        offer: machine.offer,
        pending: machine.pending,
        state: machine.state,
        why,
        reason: why.to_string(),
        used: machine.used,
        reliability: machine.reliability,
        observed_speed: machine.observed_speed,
        leases_finished: machine.leases_finished,
        leases_lost: machine.leases_lost,
        leases: machine.leases.iter().copied().collect(),
        earned: machine.earned,
        held,
        vests,
        auditing: machine.auditing.map(|(audit, _)| audit),
        audits_passed: owner.map_or(0, |owner| owner.audits_passed),
        strikes: owner.map_or(0, |owner| owner.strikes),
    }
}

fn lease(lease: &Lease) -> LeaseView {
    LeaseView {
        id: lease.id,
        job: lease.job,
        rank: lease.rank,
        machine: lease.machine,
        owner: lease.owner,
        state: lease.state,
        started: lease.started,
        sequence: lease.sequence,
        rounds: lease.rounds,
        samples: lease.samples,
        cpu_ms: lease.cpu_ms,
        paid: lease.paid,
        held: lease.held,
        forfeited: lease.forfeited,
        paid_ms: lease.paid_ms,
        parameters: lease.parameters,
    }
}

pub(crate) fn job(ledger: &Ledger, job: &Job) -> JobView {
    let why = ledger.job_reason(job);
    JobView {
        id: job.id,
        owner: job.owner,
        name: job.name.clone(),
        state: job.state,
        status: job.state.to_string(),
        why,
        reason: why.to_string(),
        spec: spec_text(ledger, job),
        submitted: job.submitted,
        started: job.started,
        ended: job.ended,
        budget: job.budget,
        escrow: job.escrow(),
        paid: job.paid,
        fees: job.fees,
        audit_permille: job.audit_permille,
        leases: ledger.job_leases(job.id).map(lease).collect(),
        result: job.result(),
        checkpoint: job.checkpoint,
        generation: job.generation,
        members: job.members.clone(),
        failures: job.failures,
    }
}

/// The spec as TOML. The ledger let no other in; one of a later release is shown as a comment.
fn spec_text(ledger: &Ledger, job: &Job) -> String {
    match JobSpec::from_bytes(ledger.spec(job.id).unwrap_or_default()) {
        Ok(spec) => spec.to_toml(),
        Err(error) => format!("# this release can't show the spec: {error}\n"),
    }
}

/// A member as the others need it.
fn rank(ledger: &Ledger, lease: &Lease) -> Option<RankView> {
    let machine = ledger.machine(lease.machine)?;
    Some(RankView {
        rank: lease.rank,
        lease: lease.id,
        machine: lease.machine,
        key: machine.key,
        addresses: machine.addresses.clone(),
        speed: machine.speed(),
    })
}

/// The active leases of a machine with all that a worker needs to serve them.
pub(crate) fn assignments(ledger: &Ledger, machine: MachineId) -> Vec<Assignment> {
    let assignment = |lease: &Lease| {
        let job = ledger.job(lease.job)?;
        Some(Assignment {
            lease: lease.id,
            job: lease.job,
            rank: lease.rank,
            sequence: lease.sequence,
            spec: hex::encode(ledger.spec(lease.job)?),
            seed: job.seed?,
            resources: lease.resources,
            generation: job.generation,
            members: job.members.iter().filter_map(|id| rank(ledger, ledger.lease(*id)?)).collect(),
            world: ledger.began_with(job),
            checkpoint: job.checkpoint,
        })
    };
    ledger.machine_leases(machine).filter_map(assignment).collect()
}

pub(crate) fn quote(quote: deepmarket_ledger::Quote) -> Quote {
    let slot = |slot: deepmarket_ledger::SlotQuote| SlotQuote {
        slot: slot.slot,
        begins: slot.begins,
        allowed: slot.allowed,
        prices: slot.prices,
        workers: slot.workers,
        enough: slot.enough,
        expected_start: slot.expected_start,
        cost_per_hour: slot.cost_per_hour,
        expected_cost: slot.expected_cost,
    };
    Quote {
        workers: quote.workers,
        machines: quote.machines,
        enough: quote.enough,
        expected_start: quote.expected_start,
        expected_ms: quote.expected_ms,
        expected_cost: quote.expected_cost,
        budget: quote.budget,
        covered: quote.covered,
        current_slot: quote.current_slot,
        slots: quote.slots.into_iter().map(slot).collect(),
        parameters: quote.parameters,
        ram_mib: quote.ram_mib,
        audit_permille: quote.audit_permille,
        fee_permille: quote.fee_permille,
    }
}

/// Whether the ledger would accept an offer, by its own rules, and what it would earn.
pub(crate) fn evaluation(ledger: &Ledger, request: &EvaluationRequest) -> EvaluationView {
    let judged = ledger.judge_offer(&request.offer, request.config.as_ref());
    let slot = |slot: deepmarket_ledger::SlotEarning| SlotEarningView {
        slot: slot.slot,
        begins: slot.begins,
        open_ms: slot.open_ms,
        prices: slot.prices,
        reaches_minimum: slot.reaches_minimum,
        full: slot.full,
        utilisation_permille: slot.utilisation_permille,
        expected: slot.expected,
    };
    EvaluationView {
        refused: judged.err().map(|rejection| rejection.message()),
        slots: ledger.evaluate(&request.offer).map(slot).into(),
    }
}

pub(crate) fn estimate(estimate: Estimate) -> EstimateView {
    EstimateView { profit: estimate.profit, cost: estimate.cost }
}

/// Sums of days, the newest day first.
pub(crate) fn days(ledger: &Ledger, sums: Vec<(u64, DayLine, DaySum)>) -> Vec<DayEntry> {
    let clock = &ledger.params().slots;
    let name = |line| match line {
        DayLine::Profit(machine) => ledger.machine(machine).map(|machine| machine.config.name.clone()),
        DayLine::Cost(job) => ledger.job(job).map(|job| job.name.clone()),
    };
    let entry = |(day, line, sum): (u64, DayLine, DaySum)| DayEntry {
        day,
        begins: day_begins(clock, day),
        line,
        name: name(line).unwrap_or_default(),
        paid_ms: sum.paid_ms,
        credits: sum.credits,
        receipts: sum.receipts,
    };
    let mut entries: Vec<DayEntry> = sums.into_iter().map(entry).collect();
    entries.sort_by_key(|entry| Reverse(entry.day));
    entries
}

/// The first moment of a day, as [`SlotClock::day_at`] counts.
fn day_begins(clock: &SlotClock, day: u64) -> TimeMs {
    TimeMs(day.saturating_mul(clock.day_ms()).saturating_add_signed(clock.utc_offset_ms.saturating_neg()))
}

/// What an account's balance is made of, compared with what its purses hold.
pub(crate) fn statement(ledger: &Ledger, account: &Account, lines: Vec<StatementLine>) -> Statement {
    let sum = |part: fn(&StatementLine) -> Credits| lines.iter().map(|line| u128::from(part(line).micro())).sum::<u128>();
    let holds = u128::from(account.granted.micro()) + u128::from(account.earned.micro());
    let balanced = sum(|line| line.incoming).checked_sub(sum(|line| line.outgoing)) == Some(holds);
    Statement { height: ledger.height(), granted: account.granted, earned: account.earned, lines, balanced }
}

pub(crate) fn invite(invite: &Invite) -> InviteView {
    InviteView { owner: invite.owner, offer: invite.offer, expires: invite.expires }
}

/// Today's prices; before the first block the floor, which is what the ledger then reckons with.
pub(crate) fn prices(ledger: &Ledger) -> PricesView {
    let clock = ledger.params().slots;
    let (day, slot) = clock.slot_at(ledger.time());
    let floor = || SlotPrices { day, slots: [ledger.params().price_floor; 4] };
    PricesView {
        prices: ledger.prices().copied().unwrap_or_else(floor),
        current_slot: slot as u8,
        slot_names: SLOT_NAMES.map(str::to_owned).into(),
        slot_ends: clock.slot_end(ledger.time()),
    }
}

pub(crate) fn totals(ledger: &Ledger) -> LedgerView {
    let totals = ledger.totals();
    LedgerView {
        height: ledger.height(),
        minted: totals.minted,
        purses: totals.purses,
        escrow: totals.escrow,
        held: totals.held,
        treasury: totals.treasury,
        burned: totals.burned,
        conserved: totals.conserved(),
    }
}

/// Does the chain know this key, as an account's or as a machine's?
pub(crate) fn knows_key(ledger: &Ledger, key: &PublicKey) -> bool {
    ledger.account_of_key(key).is_some() || ledger.machine_of_key(key).is_some()
}

#[cfg(test)]
mod tests;
