//! From the market's types to the page's, and back.

use std::collections::BTreeMap;

use deepmarket_api::{
    AccountView, AuditView, DayEntry, DayLine, EstimateView, EvaluationView, HistoryEntry, JobView, LeaseView, MachineView,
    PricesView, Progress, ProgressKind, StatementCause,
};
use deepmarket_types::{
    AuditState, AuditVerdict, Availability, ChangeMode, Credits, DailyHours, Event, JobId, JobReason, JobState, LeaseState,
    MachineConfig, MachineId, MachineReason, MachineState, SlotClock, TimeMs, UnitPrices, Weekdays,
};
use deepmarket_wallet::{
    calendar::civil_from_days,
    verification::{self, Verification},
    words::{self, CauseParts},
};

use crate::{
    error::{Answer, BAD_INPUT, without_commands},
    view::{self, Amount, CommandError},
};

/// The slots of the day.
pub const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];

pub fn slot_name(slot: u8) -> String {
    SLOT_NAMES.get(usize::from(slot)).copied().unwrap_or("?").to_owned()
}

pub fn amount(credits: Credits) -> Amount {
    credits.micro().to_string()
}

fn micro(amount: &str) -> Answer<Credits> {
    amount.parse().map(Credits::from_micro).map_err(|_| {
        CommandError::new(BAD_INPUT, format!("'{amount}' is not an amount"), "write digits with at most six decimals, like 12.5")
    })
}

/// Saturates: what others offer may be as large as they say.
fn sum(parts: impl Iterator<Item = Credits>) -> Amount {
    parts.fold(0_u64, |sum, part| sum.saturating_add(part.micro())).to_string()
}

pub fn resources(of: &deepmarket_types::Resources) -> view::Resources {
    view::Resources { cores: of.cores, gpus: of.gpus, ram_mib: of.ram_mib, disk_mib: of.disk_mib }
}

pub fn offer(of: &deepmarket_types::Offer) -> view::Offer {
    let hours = of.availability.hours;
    view::Offer {
        resources: resources(&of.resources),
        from_minute: hours.map(|hours| hours.from_minute),
        to_minute: hours.map(|hours| hours.to_minute),
        weekdays: of.availability.weekdays.0,
        until: of.availability.until.map(|until| until.0),
        min_core_hour: amount(of.minimum.core_hour),
        min_gpu_hour: amount(of.minimum.gpu_hour),
        min_ram_gib_hour: amount(of.minimum.ram_gib_hour),
        min_disk_gib_hour: amount(of.minimum.disk_gib_hour),
        ends_leases: of.at_close == ChangeMode::AtOnce,
    }
}

pub fn offer_of(view: &view::Offer) -> Answer<deepmarket_types::Offer> {
    let hours = match (view.from_minute, view.to_minute) {
        (Some(from_minute), Some(to_minute)) => Some(DailyHours { from_minute, to_minute }),
        (None, None) => None,
        _ => {
            return Err(CommandError::new(
                BAD_INPUT,
                "the hours have no beginning or no end",
                "give both, or none for the whole day",
            ));
        }
    };
    let availability = Availability { hours, weekdays: Weekdays(view.weekdays), until: view.until.map(TimeMs) };
    availability.check().map_err(|error| CommandError::new(BAD_INPUT, error, ""))?;
    let view::Resources { cores, gpus, ram_mib, disk_mib } = view.resources;
    Ok(deepmarket_types::Offer {
        resources: deepmarket_types::Resources { cores, gpus, ram_mib, disk_mib },
        availability,
        minimum: UnitPrices {
            core_hour: micro(&view.min_core_hour)?,
            gpu_hour: micro(&view.min_gpu_hour)?,
            ram_gib_hour: micro(&view.min_ram_gib_hour)?,
            disk_gib_hour: micro(&view.min_disk_gib_hour)?,
        },
        at_close: if view.ends_leases { ChangeMode::AtOnce } else { ChangeMode::AfterLease },
    })
}

pub fn measured(config: &MachineConfig, measured: TimeMs) -> view::Measured {
    view::Measured {
        name: config.name.clone(),
        platform: config.platform.clone(),
        cpu: config.cpu.clone(),
        gpu: config.gpu.clone(),
        resources: resources(&config.resources),
        speed: config.speed,
        measured: measured.0,
    }
}

/// What only this computer knows of a machine.
#[derive(Clone, Copy, Default)]
pub struct Local {
    /// Is it this computer?
    pub here: bool,
    /// Paused from here: until when, 0 for by hand.
    pub paused_until: Option<u64>,
}

pub fn machine(of: &MachineView, local: Local, clock: &SlotClock) -> view::Machine {
    // A pause is a withdrawn offer that this wallet will make again.
    let paused_until = local.paused_until.filter(|_| of.state == MachineState::Withdrawn);
    let (state, reason) = match paused_until {
        Some(0) => ("paused", "paused from here until you go on".to_owned()),
        Some(until) => ("paused", format!("paused from here until {}", clock_time(clock, TimeMs(until)))),
        None => (machine_state(of.state), machine_reason(of, clock)),
    };
    view::Machine {
        id: of.id.to_string(),
        name: of.config.name.clone(),
        here: local.here,
        platform: of.config.platform.clone(),
        cpu: of.config.cpu.clone(),
        gpu: of.config.gpu.clone(),
        resources: resources(&of.config.resources),
        speed: if of.observed_speed > 0 { of.observed_speed } else { of.config.speed },
        state: state.to_owned(),
        reason,
        offer: of.offer.as_ref().map(offer),
        pending: of.pending.as_ref().map(offer),
        used: resources(&of.used),
        reliability: of.reliability,
        leases_finished: of.leases_finished,
        leases_lost: of.leases_lost,
        leases: of.leases.iter().map(ToString::to_string).collect(),
        earned: amount(of.earned),
        held: amount(of.held),
        vests: of.vests.map(|time| time.0),
        auditing: of.auditing.map(|audit| audit.to_string()),
        paused_until,
    }
}

fn machine_state(state: MachineState) -> &'static str {
    match state {
        MachineState::Withdrawn => "withdrawn",
        MachineState::Idle => "idle",
        MachineState::InUse => "in_use",
        MachineState::Paused => "paused",
        MachineState::Draining => "draining",
        MachineState::Panic => "panic",
    }
}

fn machine_reason(of: &MachineView, clock: &SlotClock) -> String {
    match of.why {
        MachineReason::NotHeardYet => "offered; its compute node was not heard of yet".into(),
        MachineReason::LostContact => "its heartbeats stopped: start its compute node again".into(),
        MachineReason::OutsideHours { opens: Some(opens) } => format!("outside its hours until {}", clock_time(clock, opens)),
        _ => of.reason.clone(),
    }
}

/// `2026-11-25 18:00`, on the market's clock.
pub fn clock_time(clock: &SlotClock, time: TimeMs) -> String {
    let minutes = time.0.saturating_add_signed(clock.utc_offset_ms) / 60_000;
    let (year, month, day) = civil_from_days((minutes / 1440) as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes % 1440 / 60, minutes % 60)
}

pub fn job(of: &JobView, clock: &SlotClock) -> view::Job {
    let status = match of.why {
        JobReason::WaitsForSlot { starts } => format!("{}; that begins at {}", of.reason, clock_time(clock, starts)),
        _ => of.reason.clone(),
    };
    view::Job {
        id: of.id.to_string(),
        name: of.name.clone(),
        state: words::job_state(&of.state).to_owned(),
        status: capitalised(&status),
        submitted: of.submitted.0,
        started: of.started.map(|time| time.0),
        ended: of.ended.map(|time| time.0),
        budget: amount(of.budget),
        escrow: amount(of.escrow),
        paid: amount(of.paid),
        fees: amount(of.fees),
        workers: if of.state.is_closed() { 0 } else { of.members.len() as u32 },
    }
}

/// As a sentence begins.
fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

pub fn lease(of: &LeaseView, job: &JobView, machine_name: String) -> view::Lease {
    let state = match of.state {
        LeaseState::Active => "active".into(),
        LeaseState::Finished => "finished".into(),
        LeaseState::Failed(reason) => format!("failed: {reason}"),
        LeaseState::Lost => "lost: out of contact, or out of reach of the other workers".into(),
        LeaseState::Ended => "ended".into(),
    };
    view::Lease {
        id: of.id.to_string(),
        rank: of.rank,
        machine: of.machine.to_string(),
        machine_name,
        state,
        training: !job.state.is_closed() && job.members.contains(&of.id),
        rounds: of.rounds,
        samples: of.samples,
        receipts: of.sequence,
        paid: amount(of.paid),
        paid_ms: of.paid_ms,
    }
}

pub fn overview(
    account: &AccountView,
    estimate: &EstimateView,
    days: &[DayEntry],
    jobs: &[JobView],
    machines: &[MachineView],
) -> view::Overview {
    let mut job_counts = view::Counts { running: 0, waiting: 0, finished: 0, panic: 0 };
    for job in jobs {
        *match job.state {
            JobState::Matched | JobState::Running => &mut job_counts.running,
            JobState::Queued | JobState::Recovering => &mut job_counts.waiting,
            JobState::Finished(_) | JobState::Cancelled => &mut job_counts.finished,
            JobState::Panic(_) => &mut job_counts.panic,
        } += 1;
    }
    let mut machine_counts = view::Counts { running: 0, waiting: 0, finished: 0, panic: 0 };
    for machine in machines {
        *match machine.state {
            MachineState::InUse | MachineState::Draining => &mut machine_counts.running,
            MachineState::Idle | MachineState::Paused => &mut machine_counts.waiting,
            MachineState::Withdrawn => &mut machine_counts.finished,
            MachineState::Panic => &mut machine_counts.panic,
        } += 1;
    }
    view::Overview {
        granted: amount(account.granted),
        earned: amount(account.earned),
        escrow: amount(account.escrow),
        held: amount(account.held),
        vests: account.vests.map(|time| time.0),
        available: sum([account.granted, account.earned].into_iter()),
        jobs: job_counts,
        machines: machine_counts,
        profit: amount(estimate.profit),
        cost: amount(estimate.cost),
        days: days.iter().map(day).collect(),
        reliability: account.reliability,
        audits_passed: account.audits_passed,
        strikes: account.strikes,
        barred: account.barred,
    }
}

fn day(of: &DayEntry) -> view::Day {
    let (profit, id) = match of.line {
        DayLine::Profit(machine) => (true, machine.to_string()),
        DayLine::Cost(job) => (false, job.to_string()),
    };
    view::Day {
        day: of.day,
        begins: of.begins.0,
        profit,
        id,
        name: of.name.clone(),
        hours: of.paid_ms as f64 / 3_600_000.0,
        credits: amount(of.credits),
        receipts: of.receipts,
    }
}

/// An entry of a history, where it is a change of a purse.
pub fn entry(of: &HistoryEntry) -> Option<view::Entry> {
    let Event::Posted { purse, amount: by, balance, incoming, cause, .. } = &of.event else { return None };
    let parts = CauseParts::of(cause);
    Some(view::Entry {
        height: of.height.0,
        index: of.index,
        time: of.time.0,
        transaction: of.transaction.map(|id| id.to_hex()),
        incoming: *incoming,
        amount: amount(*by),
        purse: words::purse(*purse).into(),
        balance: amount(*balance),
        why: words::cause(cause),
        cause: parts.kind.into(),
        job: parts.job.map(|id| id.to_string()),
        machine: parts.machine.map(|id| id.to_string()),
        lease: parts.lease.map(|id| id.to_string()),
        receipt: parts.receipt,
        account: parts.account.map(|id| id.to_string()),
        audit: parts.audit.map(|id| id.to_string()),
    })
}

/// A receipt of a job's history.
pub fn receipt(of: &HistoryEntry) -> Option<view::ReceiptView> {
    let Event::Receipt { job, lease, machine, sequence, rounds, samples, paid_ms, payout, .. } = &of.event else { return None };
    Some(view::ReceiptView {
        job: job.to_string(),
        lease: lease.to_string(),
        number: *sequence,
        machine: machine.to_string(),
        height: of.height.0,
        time: of.time.0,
        transaction: of.transaction.map(|id| id.to_hex()),
        rounds: *rounds,
        samples: *samples,
        paid_ms: *paid_ms,
        payout: amount(*payout),
    })
}

/// Names of an account's machines and jobs.
pub struct Names {
    pub machines: BTreeMap<MachineId, String>,
    pub jobs: BTreeMap<JobId, String>,
}

pub fn statement(of: &deepmarket_api::Statement, names: &Names) -> view::Statement {
    let lines = of.lines.iter().map(|line| {
        let (cause, id, name) = match line.cause {
            StatementCause::StartingCredits => ("starting_credits", None, "Starting credits".to_owned()),
            StatementCause::Account(account) => ("account", Some(account.to_string()), account.to_string()),
            StatementCause::Job(job) => {
                let name = names.jobs.get(&job).cloned();
                ("job", Some(job.to_string()), name.unwrap_or_else(|| job.to_string()))
            }
            StatementCause::Machine(machine) => {
                let name = names.machines.get(&machine).cloned();
                ("machine", Some(machine.to_string()), name.unwrap_or_else(|| machine.to_string()))
            }
            StatementCause::Audits => ("audits", None, "Audits".to_owned()),
        };
        let (incoming, outgoing) = (amount(line.incoming), amount(line.outgoing));
        view::StatementLine { cause: cause.into(), id, name, incoming, outgoing, entries: line.entries }
    });
    view::Statement {
        height: of.height.0,
        granted: amount(of.granted),
        earned: amount(of.earned),
        lines: lines.collect(),
        balanced: of.balanced,
    }
}

pub fn prices(of: &PricesView, clock: &SlotClock) -> view::Prices {
    let slots = of.prices.slots.iter().enumerate().map(|(slot, prices)| view::SlotPrice {
        name: of.slot_names.get(slot).cloned().unwrap_or_else(|| slot_name(slot as u8)),
        core_hour: amount(prices.core_hour),
        gpu_hour: amount(prices.gpu_hour),
        ram_gib_hour: amount(prices.ram_gib_hour),
        disk_gib_hour: amount(prices.disk_gib_hour),
    });
    view::Prices {
        current_slot: of.current_slot,
        slot_ends: of.slot_ends.0,
        utc_offset_ms: clock.utc_offset_ms,
        slots: slots.collect(),
    }
}

pub fn evaluation(of: &EvaluationView) -> view::Evaluation {
    let slots = of.slots.iter().map(|slot| view::SlotEarning {
        slot: slot.slot,
        name: slot_name(slot.slot),
        begins: slot.begins.0,
        open_ms: slot.open_ms,
        core_hour: amount(slot.prices.core_hour),
        reaches_minimum: slot.reaches_minimum,
        utilisation_permille: slot.utilisation_permille,
        full: amount(slot.full),
        expected: amount(slot.expected),
    });
    view::Evaluation {
        refused: of.refused.as_deref().map(without_commands),
        slots: slots.collect(),
        full: sum(of.slots.iter().map(|slot| slot.full)),
        expected: sum(of.slots.iter().map(|slot| slot.expected)),
    }
}

pub fn quote(of: &deepmarket_api::Quote) -> view::Quote {
    let slots = of.slots.iter().map(|slot| view::SlotQuote {
        slot: slot.slot,
        name: slot_name(slot.slot),
        begins: slot.begins.0,
        allowed: slot.allowed,
        workers: slot.workers,
        enough: slot.enough,
        cost_per_hour: amount(slot.cost_per_hour),
        expected_cost: amount(slot.expected_cost),
    });
    view::Quote {
        workers: of.workers,
        machines: of.machines,
        enough: of.enough,
        expected_start: of.expected_start.map(|start| start.0),
        expected_ms: of.expected_ms,
        expected_cost: amount(of.expected_cost),
        budget: amount(of.budget),
        covered: of.covered,
        current_slot: of.current_slot,
        parameters: of.parameters,
        ram_mib: of.ram_mib,
        audit_permille: of.audit_permille,
        fee_permille: of.fee_permille,
        slots: slots.collect(),
    }
}

/// What is known about a job's work. `name` gives a machine's name.
pub fn verification(of: &Verification, name: impl Fn(MachineId) -> String) -> view::Verification {
    let counts = of.counts;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    view::Verification {
        audit_permille: of.audit_permille,
        summary: capitalised(&of.sentence()),
        open: of.is_open(),
        windows: count(counts.windows),
        audited: count(counts.audited),
        undrawn: count(counts.undrawn),
        passed: count(counts.passed),
        wrong: count(counts.wrong),
        silent: count(counts.silent),
        void: count(counts.void),
        going_on: count(counts.open),
        fees: amount(of.fees),
        held: amount(of.held),
        vests: of.vests.map(|time| time.0),
        forfeited: amount(of.forfeited),
        audits: of.audits.iter().rev().map(|audit| audit_line(audit, &name)).collect(),
    }
}

fn audit_line(of: &AuditView, name: impl Fn(MachineId) -> String) -> view::Audit {
    let auditors = of.auditors.iter().filter(|auditor| !auditor.is_excused).map(|auditor| view::AuditMachine {
        machine: name(auditor.machine),
        found: match (auditor.is_false, auditor.finding) {
            (true, _) => "false".into(),
            (false, finding) => finding.map_or("computes", verification::finding).into(),
        },
    });
    view::Audit {
        id: of.id.to_string(),
        lease: of.lease.to_string(),
        rank: of.rank,
        receipt: of.sequence,
        round: of.round.map(|round| round + 1),
        verdict: match of.state {
            AuditState::Closed(AuditVerdict::Passed) => "passed",
            AuditState::Closed(AuditVerdict::False) => "false",
            AuditState::Closed(AuditVerdict::Silent) => "silent",
            AuditState::Closed(AuditVerdict::Void) => "void",
            _ => "open",
        }
        .into(),
        status: capitalised(&of.status),
        drawn: of.drawn.0,
        auditors: auditors.collect(),
    }
}

/// A worker's report; none where it is for accounting only.
pub fn report(of: &Progress) -> Option<view::Report> {
    let what = match of.kind.clone() {
        ProgressKind::Fetching { done_bytes, total_bytes } => view::ReportKind::Fetching { done_bytes, total_bytes },
        ProgressKind::Round { round, rounds, epoch, loss, compute_ms, exchange_ms, wait_ms, .. } => {
            view::ReportKind::Round { round, rounds, epoch, loss, compute_ms, exchange_ms, wait_ms }
        }
        ProgressKind::Epoch { epoch, epochs, correct, samples, loss, .. } => {
            let accuracy = correct.filter(|_| samples > 0).map(|correct| correct as f64 / samples as f64);
            view::ReportKind::Epoch { epoch, epochs, accuracy, loss }
        }
        ProgressKind::Log { line } => view::ReportKind::Log { line },
        ProgressKind::Done { peak_ram_mib, cpu_ms, .. } => {
            let line = format!("is done: {:.1} s of CPU time, at most {peak_ram_mib} MiB of memory", cpu_ms as f64 / 1000.0);
            view::ReportKind::Log { line }
        }
        ProgressKind::Trained { .. } => return None,
    };
    Some(view::Report { time: of.time.0, rank: of.rank, what })
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{AccountId, Hash, Height, LeaseId, Posting, Purse, Resources, SecretKey};

    use super::*;

    const CLOCK: SlotClock = SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: -8 * 3_600_000 };

    fn whole_day() -> view::Offer {
        view::Offer {
            resources: view::Resources { cores: 2, gpus: 0, ram_mib: 2048, disk_mib: 1024 },
            from_minute: Some(1080),
            to_minute: Some(480),
            weekdays: 31,
            until: Some(5),
            min_core_hour: "500000".into(),
            min_gpu_hour: "0".into(),
            min_ram_gib_hour: "1".into(),
            min_disk_gib_hour: "0".into(),
            ends_leases: true,
        }
    }

    fn machine_view(state: MachineState, why: MachineReason) -> MachineView {
        let key = SecretKey::from_seed([1; 32]).public();
        let resources = Resources { cores: 4, gpus: 0, ram_mib: 8192, disk_mib: 8192 };
        MachineView {
            id: MachineId::from_key(&key),
            owner: AccountId::from_key(&key),
            key,
            nonce: 0,
            config: MachineConfig {
                name: "lab".into(),
                platform: "linux x86_64".into(),
                cpu: "cpu".into(),
                gpu: String::new(),
                host: Hash::of(b"host"),
                resources,
                speed: 1_234,
                trainer: "0".into(),
            },
            offer: None,
            pending: None,
            state,
            reason: why.to_string(),
            why,
            used: Resources::default(),
            reliability: 875,
            observed_speed: 0,
            leases_finished: 3,
            leases_lost: 1,
            leases: vec![LeaseId(7)],
            earned: Credits::from_micro(1_500_000),
            held: Credits::from_micro(7),
            vests: Some(TimeMs(9)),
            auditing: None,
            audits_passed: 0,
            strikes: 0,
        }
    }

    #[test]
    fn an_audit_says_which_round_who_computed_it_and_what_was_found() {
        let auditor = |machine: u8, finding, is_excused| deepmarket_api::AuditorView {
            machine: MachineId([machine; 20]),
            owner: AccountId([machine; 20]),
            same_class: true,
            finding,
            shown: true,
            is_false: false,
            is_excused,
            paid: Credits::from_micro(5),
        };
        let state = AuditState::Closed(AuditVerdict::Passed);
        let audit = AuditView {
            id: deepmarket_types::AuditId(4),
            job: JobId(3),
            lease: LeaseId(1),
            rank: 0,
            machine: MachineId([0; 20]),
            lender: AccountId([1; 20]),
            sequence: 2,
            rounds: (0, 40),
            round: Some(16),
            index: 16,
            state,
            status: state.to_string(),
            drawn: TimeMs(5),
            since: TimeMs(6),
            closed: Some(TimeMs(6)),
            auditors: vec![auditor(1, None, true), auditor(2, Some(deepmarket_api::FindingView::Equal), false)],
            disputed_step: None,
            judgements: 0,
        };
        let line = audit_line(&audit, |machine| format!("m{}", machine.0[0]));
        assert_eq!((line.round, line.verdict.as_str(), line.status.as_str()), (Some(17), "passed", "Passed"));
        let found: Vec<_> = line.auditors.iter().map(|auditor| (auditor.machine.as_str(), auditor.found.as_str())).collect();
        assert_eq!(found, [("m2", "equal")], "one that was excused isn't named");
    }

    #[test]
    fn an_offer_survives_the_way_to_the_page_and_back() {
        let there = offer_of(&whole_day()).unwrap();
        assert_eq!(offer(&there), whole_day());
        for wrong in [
            view::Offer { to_minute: None, ..whole_day() },
            view::Offer { weekdays: 0, ..whole_day() },
            view::Offer { min_core_hour: "0.5".into(), ..whole_day() },
            view::Offer { min_core_hour: "-1".into(), ..whole_day() },
            view::Offer { to_minute: Some(1080), ..whole_day() },
        ] {
            assert!(offer_of(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_machine_says_why_without_naming_commands() {
        for (state, why) in [
            (MachineState::Panic, MachineReason::LostContact),
            (MachineState::Panic, MachineReason::NotHeardYet),
            (MachineState::Idle, MachineReason::Ready),
        ] {
            let shown = machine(&machine_view(state, why), Local::default(), &CLOCK);
            assert!(!shown.reason.contains('`') && !shown.reason.is_empty(), "{}", shown.reason);
        }
        let opens = MachineReason::OutsideHours { opens: Some(TimeMs(1_795_613_460_000)) };
        let shown = machine(&machine_view(MachineState::Idle, opens), Local::default(), &CLOCK);
        assert_eq!(shown.reason, "outside its hours until 2026-11-25 05:31");
        assert_eq!((shown.earned.as_str(), shown.speed, shown.here), ("1500000", 1_234, false));
    }

    #[test]
    fn a_pause_is_shown_as_long_as_nothing_is_offered() {
        let local = Local { here: true, paused_until: Some(0) };
        let shown = machine(&machine_view(MachineState::Withdrawn, MachineReason::NotOffered), local, &CLOCK);
        assert_eq!((shown.state.as_str(), shown.paused_until), ("paused", Some(0)));
        let shown = machine(&machine_view(MachineState::Idle, MachineReason::Ready), local, &CLOCK);
        assert_eq!((shown.state.as_str(), shown.paused_until), ("idle", None));
    }

    #[test]
    fn a_payout_can_be_opened_down_to_its_receipt() {
        let transaction = Hash::of(b"transaction");
        let machine = MachineId([2; 20]);
        let event = Event::Posted {
            account: AccountId([1; 20]),
            purse: Purse::Earned,
            amount: Credits::from_micro(7),
            balance: Credits::from_credits(4),
            incoming: true,
            cause: Posting::Payout { job: JobId(3), lease: LeaseId(4), machine, sequence: 5 },
        };
        let of = HistoryEntry { height: Height(7), time: TimeMs(9), index: 2, transaction: Some(transaction), event };
        let entry = entry(&of).unwrap();
        assert_eq!((entry.cause.as_str(), entry.purse.as_str(), entry.receipt), ("payout", "earned", Some(5)));
        assert_eq!((entry.amount.as_str(), entry.balance.as_str()), ("7", "4000000"));
        assert_eq!((entry.job, entry.lease), (Some("job-3".into()), Some("lease-4".into())));
        assert_eq!((entry.transaction, entry.machine), (Some(transaction.to_hex()), Some(machine.to_string())));
    }

    #[test]
    fn reports_of_epochs_carry_the_share_of_right_answers() {
        let of = |kind| Progress { time: TimeMs(1), rank: 0, sequence: 1, kind };
        let epoch = ProgressKind::Epoch { epoch: 0, epochs: 2, trained: 10, correct: Some(3), samples: 4, loss: 0.5 };
        let expected = view::ReportKind::Epoch { epoch: 0, epochs: 2, accuracy: Some(0.75), loss: 0.5 };
        assert_eq!(report(&of(epoch)).unwrap().what, expected);
        let trained = ProgressKind::Trained { generation: 1, from: 0, to: 1, epoch: 0, samples: 4, ranks: vec![0] };
        assert!(report(&of(trained)).is_none());
    }
}
