use deepmarket_api::{JobView, LeaseView};
use deepmarket_job::Kind;
use deepmarket_types::{Credits, Event, JobId, JobReason, JobState, LeaseId, PanicReason, TimeMs};
use deepmarket_wallet::{
    jobs,
    verification::{self, Counts},
    words,
};

use super::{
    metrics,
    record::{Record, times_table},
};
use crate::{
    error::Outcome,
    output::{self, credits},
    settings::Settings,
    verbs::validator::now,
};

pub async fn list(settings: &Settings, all: bool) -> Outcome {
    let client = settings.client()?;
    let mut jobs = Vec::new();
    if all {
        jobs = client.jobs(None).await?;
    } else {
        for name in settings.accounts.names()? {
            jobs.extend(client.jobs(Some(settings.accounts.resolve(Some(&name), None)?)).await?);
        }
    }
    settings.output.show(&jobs, || table_of(&jobs, now()))?;
    match jobs.first() {
        None => settings.output.next("deepmarket job submit examples/mnist.toml --follow"),
        Some(job) => settings.output.next(format!("deepmarket job show {}", job.id)),
    }
    Ok(())
}

fn table_of(jobs: &[JobView], now: TimeMs) -> String {
    if jobs.is_empty() {
        return "no jobs yet".into();
    }
    let rows = jobs.iter().map(|j| {
        vec![
            j.id.to_string(),
            j.name.clone(),
            words::job_state(&j.state).to_owned(),
            why(j, now),
            output::time(j.submitted),
            j.leases.len().to_string(),
            credits(j.paid),
        ]
    });
    output::table(&["job", "name", "state", "why", "submitted", "workers", "paid"], &[5, 6], rows)
}

pub async fn run(settings: &Settings, job: JobId) -> Outcome {
    let client = settings.client()?;
    let view = jobs::fetch(&client, job).await?;
    let history = jobs::history(&client, job).await?;
    let record = Record::of(client.all_progress(job).await?);
    let times = record.times();
    let audits = client.audits(job).await?;
    let found = verification::counts(&audits, &history);
    let value = serde_json::json!({
        "job": view, "history": history, "workers": times, "epochs": record.epochs(), "verification": found, "audits": audits,
    });
    settings.output.show(&value, || {
        let mut parts = vec![describe_with(&view, Some(&found)), metrics::curves(&view, &record, settings.output.canvas())];
        if !times.is_empty() {
            parts.push(format!("where the workers' time went\n{}", times_table(&times, &view.leases)));
        }
        if history.iter().any(|entry| matches!(entry.event, Event::Receipt { .. })) {
            parts.push(receipts_table(history.iter().map(|entry| &entry.event)));
        }
        parts.retain(|part| !part.is_empty());
        parts.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("\n")
    })?;
    if let Some(next) = next(&view) {
        settings.output.next(next);
    }
    Ok(())
}

/// The next useful command.
pub fn next(job: &JobView) -> Option<String> {
    let id = job.id;
    match job.state {
        JobState::Finished(_) if jobs::kind_of(job) == Kind::Train => {
            Some(format!("deepmarket job result {id} --out result --evaluate"))
        }
        JobState::Finished(_) => Some(format!("deepmarket job result {id} --out result")),
        JobState::Cancelled | JobState::Panic(_) if job.checkpoint.is_some() => {
            Some(format!("deepmarket job result {id} --out checkpoint fetches what was learned until then"))
        }
        JobState::Panic(PanicReason::Budget) => Some("deepmarket job quote FILE shows what budget is enough".into()),
        JobState::Cancelled | JobState::Panic(_) => Some("deepmarket job submit FILE starts it again".into()),
        JobState::Queued | JobState::Matched | JobState::Running | JobState::Recovering => {
            Some(format!("deepmarket job logs {id} --follow"))
        }
    }
}

/// Why it stands where it does; for one that waits for its slot also when that begins.
fn why(job: &JobView, now: TimeMs) -> String {
    match job.why {
        JobReason::WaitsForSlot { starts } => {
            format!("{}: it begins at {}, in {}", job.reason, output::time(starts), output::duration(starts.since(now)))
        }
        _ => job.reason.clone(),
    }
}

/// A job for people.
pub fn describe(job: &JobView) -> String {
    describe_with(job, None)
}

/// A job for people, with what audits found.
fn describe_with(job: &JobView, found: Option<&Counts>) -> String {
    let mut rows = vec![
        ("job", format!("{} '{}'", job.id, job.name)),
        ("state", words::job_state(&job.state).to_owned()),
        ("why", why(job, now())),
        ("submitted", output::time(job.submitted)),
        ("budget", credits(job.budget)),
        ("paid", credits(job.paid)),
        ("in escrow", credits(job.escrow)),
    ];
    if job.audit_permille > 0 {
        let rate = format!("{} of the receipts at least, for {} so far", output::permille(job.audit_permille), credits(job.fees));
        rows.push(("audits", rate));
        rows.extend(found.map(|found| ("found", found.sentence(true))));
        let sum = |part: fn(&LeaseView) -> Credits| job.leases.iter().map(part).sum::<Credits>();
        let (held, lost) = (sum(|lease| lease.held), sum(|lease| lease.forfeited));
        if !held.is_zero() {
            rows.push(("of the pay, held", format!("{} until it vests", credits(held))));
        }
        if !lost.is_zero() {
            rows.push(("of the pay, lost", format!("{}: false work, or work that wasn't shown", credits(lost))));
        }
    }
    match (job.started, job.ended) {
        (Some(started), Some(ended)) => rows.insert(4, ("ran for", output::duration(ended.since(started)))),
        (Some(started), None) => rows.insert(4, ("started", output::time(started))),
        _ => {}
    }
    if job.generation > 0 && !job.state.is_closed() {
        rows.push(("workers", workers_now(job)));
    }
    if job.failures > 0 {
        rows.push(("failures", format!("{} worker(s) failed; those that left or lost contact don't count", job.failures)));
    }
    if let Some(result) = job.result {
        rows.push(("result", result.to_string()));
    } else if let Some(checkpoint) = &job.checkpoint {
        rows.push(("last checkpoint", format!("{} (of round {})", checkpoint.state, checkpoint.rounds)));
    }
    let workers = job.leases.iter().map(|l| {
        vec![
            l.rank.to_string(),
            l.id.to_string(),
            l.machine.to_string(),
            words::lease_state(&l.state),
            l.rounds.to_string(),
            l.samples.to_string(),
            output::duration(l.cpu_ms),
            output::aligned(l.paid),
        ]
    });
    let mut text = output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    if !job.leases.is_empty() {
        let header = ["rank", "lease", "machine", "state", "rounds", "samples", "CPU", "paid (credits)"];
        text += &format!("\n{}", output::table(&header, &[0, 4, 5, 6, 7], workers));
    }
    text
}

/// Who trains it, by rank, and how often that changed.
fn workers_now(job: &JobView) -> String {
    let rank = |lease: &LeaseId| job.leases.iter().find(|l| l.id == *lease).map_or("?".into(), |l| l.rank.to_string());
    let ranks: Vec<String> = job.members.iter().map(rank).collect();
    let changes = match job.generation {
        1 => "from the beginning on".to_owned(),
        2 => "after one change".to_owned(),
        generation => format!("after {} changes", generation - 1),
    };
    match ranks.is_empty() {
        true => format!("nobody trains it now, {changes}"),
        false => format!("{} train it, {changes}", ranks.join(", ")),
    }
}

/// Every receipt among some events.
pub fn receipts_table<'a>(events: impl Iterator<Item = &'a Event>) -> String {
    let rows = events.filter_map(|event| match event {
        Event::Receipt { lease, rank, sequence, rounds, samples, paid_ms, payout, .. } => Some(vec![
            lease.to_string(),
            rank.to_string(),
            sequence.to_string(),
            rounds.to_string(),
            samples.to_string(),
            output::duration(*paid_ms),
            output::aligned(*payout),
        ]),
        _ => None,
    });
    output::table(&["lease", "rank", "receipt", "rounds", "samples", "paid for", "payout (credits)"], &[1, 2, 3, 4, 5, 6], rows)
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{AccountId, Checkpoint, Hash};

    use super::*;

    const NOW: TimeMs = TimeMs(1_795_613_460_000);

    fn job(state: JobState, why: JobReason) -> JobView {
        JobView {
            id: JobId(3),
            owner: AccountId([1; 20]),
            name: "mnist".into(),
            state,
            status: state.to_string(),
            reason: why.to_string(),
            why,
            spec: String::new(),
            submitted: NOW,
            started: None,
            ended: None,
            budget: Credits::from_credits(20),
            escrow: Credits::ZERO,
            paid: Credits::ZERO,
            fees: Credits::from_micro(1_500),
            audit_permille: 100,
            leases: Vec::new(),
            result: None,
            checkpoint: None,
            generation: 0,
            members: Vec::new(),
            failures: 0,
        }
    }

    #[test]
    fn a_job_that_waits_for_its_slot_says_when_it_begins() {
        let waiting = job(JobState::Queued, JobReason::WaitsForSlot { starts: NOW.plus(3 * 3_600_000) });
        let text = table_of(&[waiting], NOW);
        for part in ["job-3", "queued", "waits for a slot", "2026-11-25 16:31:00 UTC, in 3 h 0 min"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }

    #[test]
    fn a_stopped_job_shows_its_reason_and_its_checkpoint_and_how_to_fetch_it() {
        let why = JobReason::Aborted { why: PanicReason::Budget, lease: None, machine: None };
        let mut stopped = job(JobState::Panic(PanicReason::Budget), why);
        assert_eq!(next(&stopped).unwrap(), "deepmarket job quote FILE shows what budget is enough");
        stopped.checkpoint = Some(Checkpoint { state: Hash::of(b"state"), rounds: 200 });
        (stopped.generation, stopped.failures) = (3, 1);
        let text = describe(&stopped);
        for part in ["panic", "budget: the escrow", "last checkpoint", "of round 200", "1 worker(s)"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert!(next(&stopped).unwrap().starts_with("deepmarket job result job-3"));
    }

    #[test]
    fn an_open_job_says_who_trains_it() {
        let mut open = job(JobState::Recovering, JobReason::Recovering { preparing: 0 });
        open.generation = 3;
        assert!(describe(&open).contains("nobody trains it now, after 2 changes"));
    }

    #[test]
    fn an_audited_job_says_how_much_is_computed_again_and_what_was_found() {
        let open = job(JobState::Running, JobReason::Preparing);
        let found = Counts { windows: 9, audited: 2, passed: 2, ..Counts::default() };
        let text = describe_with(&open, Some(&found));
        for part in ["10.0 % of the receipts at least, for 0.0015 credits so far", "2 of 9 windows", "all equal"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
