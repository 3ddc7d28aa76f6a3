//! What happened on the chain, in words.

use deepmarket_types::{AccountId, Event, JobId, LeaseId, LeaseState, MachineId, Posting, Purse};

use crate::output::credits;

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
    }
}

/// The same in parts, for spreadsheets.
#[derive(Default)]
pub struct CauseParts {
    pub kind: &'static str,
    pub job: Option<JobId>,
    pub lease: Option<LeaseId>,
    pub machine: Option<MachineId>,
    pub receipt: Option<u32>,
    pub account: Option<AccountId>,
}

impl CauseParts {
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
                account: None,
            },
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
            crate::output::duration(*paid_ms)
        ),
        Event::Prices(prices) => format!("the prices of day {} are set", prices.day),
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
