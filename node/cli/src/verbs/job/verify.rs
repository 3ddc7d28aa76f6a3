//! What is known about a job's work, worker by worker and window by window.

use std::time::{Duration, Instant};

use deepmarket_api::{AuditView, AuditorView, Client};
use deepmarket_types::{JobId, TimeMs};
use deepmarket_wallet::verification::{self, Pay, Verification, Window};

use crate::{
    error::{Failure, Outcome},
    output::{self, Output, aligned, credits},
    settings::Settings,
    verbs::validator::now,
};

/// How often an open audit is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Digits of a hash in a table.
const DIGITS: usize = 12;

pub async fn run(settings: &Settings, job: JobId, until_closed: bool) -> Outcome {
    let client = settings.client()?;
    let found = match until_closed {
        true => wait(&client, job, None, settings.output).await?,
        false => verification::fetch(&client, job).await?,
    };
    settings.output.show(&found, || describe(&found, now()))?;
    if found.counts.wrong > 0 {
        return Err(Failure::user(format!("work for {job} was FALSE: {}", found.sentence()))
            .with_hint("its pay was taken back, and a quarter of it is yours; see `deepmarket account history`"));
    }
    if found.is_open() {
        settings.output.next(format!("deepmarket job verify {job} --wait"));
    } else {
        settings.output.next(format!("deepmarket chain verify --job {job} takes nobody's word for it"));
    }
    Ok(())
}

/// Waits until no audit of a job is open any more and every window was drawn, for `patience` at most; tells what changes.
pub async fn wait(client: &Client, job: JobId, patience: Option<Duration>, output: Output) -> Outcome<Verification> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let found = verification::fetch(client, job).await?;
        let line = found.sentence();
        if line != told {
            output.say(format!("{job}: {line}"));
            told = line;
        }
        if !found.is_open() || patience.is_some_and(|patience| began.elapsed() >= patience) {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn describe(found: &Verification, now: TimeMs) -> String {
    let mut parts = Vec::new();
    let mut workers: Vec<&[Window]> = found.windows.chunk_by(|a, b| a.lease == b.lease).collect();
    workers.sort_by_key(|windows| (windows[0].rank, windows[0].lease));
    for windows in workers {
        let first = &windows[0];
        let rows = windows.iter().map(|window| row(found, window, now));
        let header = ["receipt", "rounds", "commitments", "root of all of them", "audit", "what was found", "pay (credits)", ""];
        parts.push(format!(
            "worker {} ({} on {})\n{}",
            first.rank,
            first.lease,
            first.machine,
            output::table(&header, &[0, 1, 2, 6], rows)
        ));
    }
    parts.push(summary(found, now));
    parts.join("\n")
}

fn row(found: &Verification, window: &Window, now: TimeMs) -> Vec<String> {
    let audits: Vec<&AuditView> = window.audits.iter().filter_map(|id| found.audit(*id)).collect();
    let lines = |line: fn(&AuditView) -> String| audits.iter().map(|audit| line(audit)).collect::<Vec<_>>().join("\n");
    let none = match (window.has_commitments(), window.is_drawn) {
        (false, _) => "nothing to audit",
        (true, Some(false)) => "to be drawn",
        _ => "-",
    };
    vec![
        window.sequence.to_string(),
        rounds(window.rounds),
        format!("{} (+{})", window.committed.1, window.committed.1.saturating_sub(window.committed.0)),
        format!("{}…", &window.commitments.to_hex()[..DIGITS]),
        if audits.is_empty() { none.to_owned() } else { lines(name) },
        lines(story),
        aligned(window.payout),
        match window.pay {
            Pay::None => String::new(),
            Pay::Vested => "vested".into(),
            Pay::Lost => "LOST".into(),
            Pay::Held { vests } if vests > now => format!("held, vests in {}", output::duration(vests.since(now))),
            Pay::Held { .. } => "held while an audit is open".into(),
        },
    ]
}

/// `1 to 40`, counted from 1; the rounds before are not of this window.
fn rounds((before, with): (u64, u64)) -> String {
    match with.saturating_sub(before) {
        0 => "-".into(),
        1 => with.to_string(),
        _ => format!("{} to {with}", before + 1),
    }
}

fn name(audit: &AuditView) -> String {
    match audit.round {
        Some(round) => format!("{} of round {}", audit.id, round + 1),
        None => audit.id.to_string(),
    }
}

/// `equal: machine-2 (0.0002 credits)`.
fn story(audit: &AuditView) -> String {
    let auditors: Vec<String> = audit.auditors.iter().filter(|auditor| !auditor.is_excused).map(auditor).collect();
    let step = audit.disputed_step.map(|step| format!(" at step {step}, {} validator(s) judged", audit.judgements));
    let verdict = format!("{}{}", verification::verdict(audit.state), step.unwrap_or_default());
    match auditors.is_empty() {
        true => verdict,
        false => format!("{verdict}: {}", auditors.join(", ")),
    }
}

fn auditor(auditor: &AuditorView) -> String {
    let class = if auditor.same_class { "" } else { ", another class" };
    let found = auditor.finding.map_or("computes", verification::finding);
    let lied = if auditor.is_false { ", FALSE" } else { "" };
    format!("{}… {found}{class}{lied}", &auditor.machine.to_string()[..DIGITS])
}

fn summary(found: &Verification, now: TimeMs) -> String {
    let vests = found.vests.map(|vests| match vests > now {
        true => format!(", the last of it vests in {}", output::duration(vests.since(now))),
        false => ", until open audits are closed".into(),
    });
    let mut rows = vec![
        ("audit rate", format!("{} of the receipts at least", output::permille(found.audit_permille))),
        ("found", found.sentence()),
        ("committed rounds", found.counts.rounds.to_string()),
        ("paid for audits", credits(found.fees)),
        ("held of the pay", format!("{}{}", credits(found.held), vests.unwrap_or_default())),
    ];
    if !found.forfeited.is_zero() {
        rows.push(("lost of the pay", credits(found.forfeited)));
    }
    output::table(&[found.job.to_string().as_str(), ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use deepmarket_api::FindingView;
    use deepmarket_types::{AccountId, AuditId, AuditState, AuditVerdict, Credits, Hash, Height, LeaseId, MachineId};
    use deepmarket_wallet::verification::Counts;

    use super::*;

    const NOW: TimeMs = TimeMs(1_795_613_460_000);

    fn window(rank: u32, sequence: u32, pay: Pay, audits: Vec<AuditId>) -> Window {
        let with = 40 * u64::from(sequence);
        Window {
            lease: LeaseId(u64::from(rank) + 1),
            rank,
            machine: MachineId([rank as u8; 20]),
            sequence,
            height: Height(7),
            time: NOW,
            transaction: Hash::of(b"transaction"),
            rounds: (with - 40, with),
            committed: (with - 40, with),
            commitments: Hash::of(&[sequence as u8]),
            parameters: Hash::of(b"parameters"),
            samples: 2_560,
            payout: Credits::from_micro(1_234),
            is_drawn: matches!(pay, Pay::Held { .. }).then_some(!audits.is_empty()),
            pay,
            audits,
        }
    }

    fn audit(id: u64, state: AuditState, finding: Option<FindingView>) -> AuditView {
        let auditor = AuditorView {
            machine: MachineId([7; 20]),
            owner: AccountId([7; 20]),
            same_class: true,
            finding,
            shown: true,
            is_false: false,
            is_excused: false,
            paid: Credits::from_micro(5),
        };
        AuditView {
            id: AuditId(id),
            job: JobId(3),
            lease: LeaseId(1),
            rank: 0,
            machine: MachineId([0; 20]),
            lender: AccountId([1; 20]),
            sequence: id as u32,
            rounds: (0, 40),
            round: Some(16),
            index: 16,
            state,
            status: state.to_string(),
            drawn: NOW,
            since: NOW,
            closed: None,
            auditors: vec![auditor],
            disputed_step: None,
            judgements: 0,
        }
    }

    #[test]
    fn every_window_says_who_committed_to_what_and_what_was_found() {
        let vests = NOW.plus(95_000);
        let found = Verification {
            job: JobId(3),
            audit_permille: 100,
            fees: Credits::from_micro(200),
            held: Credits::from_micro(2_468),
            vests: Some(vests),
            forfeited: Credits::ZERO,
            counts: Counts { windows: 3, rounds: 120, audited: 2, undrawn: 1, passed: 1, open: 1, ..Counts::default() },
            windows: vec![
                window(0, 1, Pay::Vested, vec![AuditId(1)]),
                window(0, 2, Pay::Held { vests }, vec![AuditId(2)]),
                window(1, 1, Pay::Held { vests }, vec![]),
            ],
            audits: vec![
                audit(1, AuditState::Closed(AuditVerdict::Passed), Some(FindingView::Equal)),
                audit(2, AuditState::Computing, None),
            ],
        };
        let text = describe(&found, NOW);
        for part in [
            "worker 0 (lease-1 on",
            "worker 1 (lease-2 on",
            "1 to 40",
            "41 to 80",
            "80 (+40)",
            &Hash::of(&[2]).to_hex()[..12],
            "audit-1 of round 17",
            "equal:",
            "open: computing:",
            "to be drawn",
            "vested",
            "held, vests in 95 s",
            "10.0 % of the receipts at least",
            "1 are still to be drawn",
            "0.002468 credits, the last of it vests in 95 s",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
