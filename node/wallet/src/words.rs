//! What a market tells, in words: events, and amounts, times and sizes as people read them.

use deepmarket_types::{
    AccountId, AuditId, Credits, Event, JobId, JobState, LeaseId, LeaseState, MICROCREDITS, MachineId, Posting, Purse, TimeMs,
};

use crate::calendar::civil_from_days;

/// A job's state in one word.
pub fn job_state(state: &JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Matched => "matched",
        JobState::Running => "running",
        JobState::Recovering => "recovering",
        JobState::Finished(_) => "finished",
        JobState::Cancelled => "cancelled",
        JobState::Panic(_) => "panic",
    }
}

/// `12.5 credits`.
pub fn credits(amount: Credits) -> String {
    format!("{amount} credits")
}

/// `12.500000`: for columns of amounts.
pub fn aligned(amount: Credits) -> String {
    format!("{}.{:06}", amount.micro() / MICROCREDITS, amount.micro() % MICROCREDITS)
}

/// `3 min 20 s`, from milliseconds.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=9 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `87.5 %`, from thousandths.
pub fn permille(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// `54.9 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `2026-11-25 14:03:59 UTC`.
pub fn time(time: TimeMs) -> String {
    let seconds = time.0 / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// A purse's name.
pub fn purse(purse: Purse) -> &'static str {
    match purse {
        Purse::Granted => "granted",
        Purse::Earned => "earned",
    }
}

/// Why a purse changed.
pub fn cause(cause: &Posting) -> String {
    match cause {
        Posting::StartingCredits => "starting credits".into(),
        Posting::TransferFrom(who) => format!("from {who}"),
        Posting::TransferTo(who) => format!("to {who}"),
        Posting::Escrow(job) => format!("escrow of {job}"),
        Posting::Refund(job) => format!("left of the escrow of {job}"),
        Posting::Payout { job, lease, sequence, .. } => format!("work for {job}: receipt {sequence} of {lease}"),
        Posting::Audit(audit) => format!("computing {audit} again"),
        Posting::Forfeit(audit) => format!("a part of what false work lost, found by {audit}"),
    }
}

/// The same in parts, for spreadsheets.
#[derive(Default)]
pub struct CauseParts {
    /// `starting_credits`, `transfer_from`, `transfer_to`, `escrow`, `refund`, `payout`, `audit` or `forfeit`.
    pub kind: &'static str,
    /// The job that it was for.
    pub job: Option<JobId>,
    /// The lease that was paid.
    pub lease: Option<LeaseId>,
    /// The machine that worked.
    pub machine: Option<MachineId>,
    /// The receipt's number within its lease.
    pub receipt: Option<u32>,
    /// The other account of a transfer.
    pub account: Option<AccountId>,
    /// The audit.
    pub audit: Option<AuditId>,
}

impl CauseParts {
    /// Of a cause.
    pub fn of(cause: &Posting) -> CauseParts {
        let none = CauseParts::default();
        match *cause {
            Posting::StartingCredits => CauseParts { kind: "starting_credits", ..none },
            Posting::TransferFrom(who) => CauseParts { kind: "transfer_from", account: Some(who), ..none },
            Posting::TransferTo(who) => CauseParts { kind: "transfer_to", account: Some(who), ..none },
            Posting::Escrow(job) => CauseParts { kind: "escrow", job: Some(job), ..none },
            Posting::Refund(job) => CauseParts { kind: "refund", job: Some(job), ..none },
            Posting::Payout { job, lease, machine, sequence } => CauseParts {
                kind: "payout",
                job: Some(job),
                lease: Some(lease),
                machine: Some(machine),
                receipt: Some(sequence),
                ..none
            },
            Posting::Audit(audit) => CauseParts { kind: "audit", audit: Some(audit), ..none },
            Posting::Forfeit(audit) => CauseParts { kind: "forfeit", audit: Some(audit), ..none },
        }
    }
}

/// An event as a sentence.
pub fn sentence(event: &Event) -> String {
    match event {
        Event::Posted { account, purse: which, amount, balance, incoming, cause: why } => {
            let sign = if *incoming { '+' } else { '-' };
            format!("{account}: {sign}{} ({}, now {}): {}", credits(*amount), purse(*which), credits(*balance), cause(why))
        }
        Event::Machine { machine, state, .. } => format!("{machine} is {state}"),
        Event::Job { job, state, .. } => format!("{job} is {state}"),
        Event::Lease { lease, job, rank, machine, state } => {
            format!("{lease} (rank {rank} of {job}, on {machine}) {}", lease_state(state))
        }
        Event::Members { job, members, .. } if members.is_empty() => format!("{job} has no workers that train"),
        Event::Members { job, members, .. } => {
            let members: Vec<String> = members.iter().map(LeaseId::to_string).collect();
            format!("{job} is trained by {} from now on", members.join(", "))
        }
        Event::Receipt { job, lease, sequence, rounds, samples, paid_ms, payout, .. } => format!(
            "receipt {sequence} of {lease} for {job} is accepted: {rounds} rounds and {samples} samples so far; {} for {}",
            credits(*payout),
            duration(*paid_ms)
        ),
        Event::Prices(prices) => format!("the prices of day {} are set", prices.day),
        Event::Audit { audit, job, lease, state, .. } => format!("{audit} of {lease} for {job}: {state}"),
    }
}

/// How a lease stands.
pub fn lease_state(state: &LeaseState) -> String {
    match state {
        LeaseState::Active => "is active".into(),
        LeaseState::Finished => "is served to the end".into(),
        LeaseState::Failed(reason) => format!("failed: {reason}"),
        LeaseState::Lost => "is lost: its machine lost contact, or the other workers could not reach it".into(),
        LeaseState::Ended => "has ended with its job".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_durations_read_well() {
        assert_eq!(time(TimeMs(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(TimeMs(951_782_400_000)), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(TimeMs(1_795_392_000_000)), "2026-11-23 00:00:00 UTC");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!((permille(875), permille(1000), permille(3)), ("87.5 %".into(), "100.0 %".into(), "0.3 %".into()));
        assert_eq!(duration(3_456), "3.4 s");
        assert_eq!(duration(200_000), "3 min 20 s");
    }
}
