//! What a machine has to do in audits: as the worker whose round was drawn, and as an auditor (DESIGN section 7).
//!
//! ```text
//! gateway ── duties ──▶ ┌ at once:   disclose (what was kept ─▶ blob, opening), reveal
//!                       └ in a row:  compute (evidence ─▶ trainer ─▶ hidden answer), trace
//! ```
//!
//! Of each row one is done at a time, the one with the nearest deadline first; rounds go on meanwhile. Duties are served whenever
//! the agent runs, also where the machine isn't offered, and for leases of an earlier life of the agent: what they need is on disk.

use std::{collections::HashMap, fmt::Display, sync::Arc, time::Duration};

use deepmarket_api::{ApiError, AuditDuty, AuditTask};
use deepmarket_job::{Evidence, protocol::floats_to_bytes};
use deepmarket_types::{
    Action, AuditId, CommitmentPlace, Disclosure, Finding, Hash, Height, MachineId, RoundOutcome, RoundTrace, Transaction, blind,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    answers::{Answer, answer_salt},
    archive::Kept,
    auditor::{Found, examine, fetch_evidence},
    committer::round_salt,
    data::Source,
    lease::{COPIES, Context},
    replay::{Blobs, ReplayError, Subject},
};

/// How often the chain is asked.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The pause before something that failed is tried again; doubles up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long one transaction waits for a block, and how many blocks it stays valid.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
const VALID_BLOCKS: u64 = 100;
/// How long evidence is looked for when it was there before.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any duty waits.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a duty can't be done now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DutyError {
    /// What is needed isn't on this machine.
    #[error("{0}")]
    Gone(String),
    /// The round can't be computed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The gateways.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The disk.
    #[error("what is kept for audits can't be used: {0}")]
    Disk(#[from] std::io::Error),
}

impl DutyError {
    fn trainer(error: impl Display) -> DutyError {
        DutyError::Replay(ReplayError::Unable(error.to_string()))
    }
}

/// Does a machine's duties until it is dropped. Once the owner wants the machine back nothing is computed any more.
pub(crate) async fn follow(context: Arc<Context>) {
    let machine = MachineId::from_key(&context.key.public());
    let duties = watch::Sender::new(Vec::new());
    let poll = async {
        loop {
            match context.client.duties(machine).await {
                Ok(news) if *duties.borrow() != news => drop(duties.send_replace(news)),
                Ok(_) => {}
                Err(e) => tracing::debug!("no duties just now: {e}"),
            }
            sleep(POLL_EVERY).await;
        }
    };
    let is_light = |task| matches!(task, AuditTask::Disclose | AuditTask::Reveal);
    let heavy = async {
        tokio::select! {
            () = row(&context, duties.subscribe(), |task| !is_light(task)) => {}
            // Dropping the work kills its trainer.
            () = context.stop.cancelled() => {
                let left = duties.borrow().clone();
                excuse(&context, &left).await;
            }
        }
    };
    futures::join!(poll, row(&context, duties.subscribe(), is_light), heavy);
}

/// The nearest duties of some kind, one after the other.
async fn row(context: &Context, mut duties: watch::Receiver<Vec<AuditDuty>>, is_mine: impl Fn(AuditTask) -> bool) {
    // Not before then, and the last pause.
    let mut waits: HashMap<(AuditId, u8), (Instant, Duration)> = HashMap::new();
    loop {
        let now = Instant::now();
        let next = {
            let duties = duties.borrow_and_update();
            waits.retain(|key, _| duties.iter().any(|duty| key_of(duty) == *key));
            let may = |duty: &&AuditDuty| waits.get(&key_of(duty)).is_none_or(|(until, _)| *until <= now);
            duties.iter().filter(|duty| is_mine(duty.task)).filter(may).min_by_key(|duty| duty.deadline).cloned()
        };
        let Some(duty) = next else {
            tokio::select! {
                changed = duties.changed() => if changed.is_err() { return },
                () = sleep(RETRY.0) => {}
            }
            continue;
        };
        let AuditDuty { audit, task, .. } = duty;
        let pause = match serve(context, &duty).await {
            Ok(()) => {
                tracing::info!(%audit, ?task, "done");
                // It is named until the chain knows.
                FOR_EVER
            }
            Err(error) => {
                tracing::warn!(%audit, ?task, "an audit's duty could not be done, trying again: {error}");
                waits.get(&key_of(&duty)).map_or(RETRY.0, |(_, last)| RETRY.1.min(*last * 2))
            }
        };
        waits.insert(key_of(&duty), (Instant::now() + pause, pause));
    }
}

fn key_of(duty: &AuditDuty) -> (AuditId, u8) {
    (duty.audit, duty.task as u8)
}

async fn serve(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    #[cfg(feature = "test-utils")]
    if let Some(done) = crate::testing::instead(context, duty).await {
        return done;
    }
    match duty.task {
        AuditTask::Disclose => disclose(context, duty).await,
        AuditTask::Compute => compute(context, duty).await,
        AuditTask::Reveal => reveal(context, duty).await,
        AuditTask::Trace => trace(context, duty).await,
        // Not a machine's.
        AuditTask::Judge => Ok(()),
    }
}

/// Opens the drawn commitment, and stores what the round was computed from.
async fn disclose(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    let (disclosure, evidence) = opening(context, duty).await?;
    context.client.put_blob(&context.key, &context.chain, evidence.to_bytes(), COPIES).await?;
    say(context, Action::Disclose(disclosure)).await
}

/// What a disclosure says, and the evidence that it names.
pub(crate) async fn opening(context: &Context, duty: &AuditDuty) -> Result<(Disclosure, Evidence), DutyError> {
    context.archive.flush().await;
    let evidence = kept_evidence(context, duty).await?;
    let evidence = match is_alone_in_its_class(context).await {
        false => evidence,
        true => with_update(context, duty, evidence).await?,
    };
    let place = CommitmentPlace { chain: context.chain, job: duty.job, lease: duty.lease, rank: duty.rank };
    let (folder, index, committed) = (context.archive.folder.clone(), duty.index, duty.committed.1);
    let lease = duty.lease;
    let opened = blocking(move || {
        let kept = Kept::read(&folder, lease)?;
        let last = committed.checked_sub(1).filter(|last| *last != index);
        let last = last.and_then(|last| kept.open(&place, last, committed));
        Ok(kept.open(&place, index, committed).map(|opened| (opened, last)))
    });
    let ((commitment, proof), last) = opened.await?.ok_or_else(|| gone(duty, "its commitment"))?;
    if proof.root(&commitment.leaf(&place), index, committed) != Some(duty.commitments) {
        return Err(gone(duty, "the commitments that its receipt names"));
    }
    let salt = round_salt(&context.key, &context.chain, duty.lease, commitment.round);
    let disclosure = Disclosure { audit: duty.audit, commitment, salt, proof, last, evidence: evidence.hash() };
    Ok((disclosure, evidence))
}

fn gone(duty: &AuditDuty, what: &str) -> DutyError {
    let AuditDuty { lease, index, .. } = duty;
    DutyError::Gone(format!("commitment {index} of {lease} was drawn, and {what} isn't on this machine any more"))
}

async fn kept_evidence(context: &Context, duty: &AuditDuty) -> Result<Evidence, DutyError> {
    let (folder, lease, index) = (context.archive.folder.clone(), duty.lease, duty.index);
    let evidence = blocking(move || Kept::read(&folder, lease)?.evidence(index)).await?;
    evidence.ok_or_else(|| gone(duty, "what it was computed from"))
}

/// Reads from the disk without holding up the rounds.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, DutyError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)??)
}

/// As the chain sees it when it looks for an auditor: no machine of another owner that is offered computes the same bits.
async fn is_alone_in_its_class(context: &Context) -> bool {
    let own = MachineId::from_key(&context.key.public());
    let (Ok(Some(own)), Ok(machines)) = (context.client.machine(own).await, context.client.machines(None).await) else {
        return false;
    };
    let is_other = |m: &deepmarket_api::MachineView| m.owner != own.owner && m.offer.is_some();
    !machines.iter().any(|machine| is_other(machine) && machine.config.trainer == own.config.trainer)
}

/// For an auditor whose machine computes other bits: the very state before the round, as following averages would lead elsewhere
/// there, and what came of the round.
async fn with_update(context: &Context, duty: &AuditDuty, evidence: Evidence) -> Result<Evidence, DutyError> {
    let blobs = blobs(context, duty);
    let subject = Subject::of(duty, &blobs).await?;
    let mut trainer = subject.replay(&context.trainer, duty, &blobs, &evidence).await?;
    let state = trainer.save(0).await.map_err(DutyError::trainer)?;
    let computed = trainer.round(evidence.round, evidence.team.len()).await.map_err(DutyError::trainer)?;
    trainer.stop().await;
    let (update, steps) = (Some(floats_to_bytes(&computed.values)), Some(computed.steps));
    Ok(Evidence { state, averages: Vec::new(), update, steps, ..evidence })
}

pub(crate) fn blobs<'a>(context: &Context, duty: &AuditDuty) -> Blobs<'a> {
    let (net, client) = (context.net.clone(), context.client.clone());
    Blobs::Machine(Source { net, client, peers: Vec::new(), rank: duty.rank })
}

/// Computes a drawn round, and tells the answer hidden.
async fn compute(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    if duty.finding.is_some() {
        return Ok(());
    }
    let answer = match context.answers.of(duty.audit)? {
        Some(answer) => answer,
        None => {
            let found = examine(context, duty, &blobs(context, duty)).await;
            tracing::info!(audit = %duty.audit, lease = %duty.lease, ?found, "computed an audited round");
            answer_of(context, duty.audit, found)
        }
    };
    give(context, duty.audit, answer).await
}

/// What is told of what was found.
pub(crate) fn answer_of(context: &Context, audit: AuditId, found: Result<Found, ReplayError>) -> Answer {
    let hidden = |outcome: &RoundOutcome| {
        let salt = answer_salt(&context.key, &context.chain, audit);
        blind(audit, &context.key.public(), &outcome.answer(), &salt)
    };
    match found {
        Ok(Found::Equal(outcome)) => Answer { finding: Finding::Equal { blinded: hidden(&outcome) }, outcome: Some(outcome) },
        Ok(Found::Different(outcome)) => {
            Answer { finding: Finding::Different { blinded: hidden(&outcome) }, outcome: Some(outcome) }
        }
        Err(ReplayError::Unusable(_)) => Answer { finding: Finding::Unusable, outcome: None },
        Err(ReplayError::Unable(_)) => Answer { finding: Finding::Unable, outcome: None },
    }
}

/// Notes an answer, then tells it.
pub(crate) async fn give(context: &Context, audit: AuditId, answer: Answer) -> Result<(), DutyError> {
    context.answers.note(audit, &answer)?;
    say(context, Action::Commit { audit, finding: answer.finding }).await
}

/// The machine is taken back: who would wait for its answers needn't.
async fn excuse(context: &Context, duties: &[AuditDuty]) {
    for duty in duties.iter().filter(|duty| duty.task == AuditTask::Compute && duty.finding.is_none()) {
        if matches!(context.answers.of(duty.audit), Ok(None)) {
            let answer = Answer { finding: Finding::Unable, outcome: None };
            if let Err(error) = give(context, duty.audit, answer).await {
                tracing::warn!(audit = %duty.audit, "the chain could not be told that this machine can't go on: {error}");
            }
        }
    }
}

/// Shows an answer.
async fn reveal(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    let outcome = context.answers.of(duty.audit)?.and_then(|answer| answer.outcome);
    let missing = || DutyError::Gone(format!("this machine's answer to {} isn't here any more", duty.audit));
    let salt = answer_salt(&context.key, &context.chain, duty.audit);
    say(context, Action::Reveal { audit: duty.audit, outcome: outcome.ok_or_else(missing)?, salt }).await
}

/// Shows the steps of a disputed round: the worker its own; an auditor too, with the state before the first one on which they differ.
async fn trace(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    let is_worker = duty.machine == MachineId::from_key(&context.key.public());
    let evidence = match (&duty.disclosed, is_worker) {
        (Some(disclosed), false) => fetch_evidence(&context.client, &disclosed.evidence, AGAIN_WITHIN).await?,
        _ => {
            context.archive.flush().await;
            kept_evidence(context, duty).await?
        }
    };
    let blobs = blobs(context, duty);
    let subject = Subject::of(duty, &blobs).await?;
    let mut trainer = subject.replay(&context.trainer, duty, &blobs, &evidence).await?;
    let round = evidence.round;
    let outcome = match context.answers.of(duty.audit)?.and_then(|answer| answer.outcome).filter(|_| !is_worker) {
        Some(outcome) => outcome,
        None => trainer.round(round, evidence.team.len()).await.map_err(DutyError::trainer)?.outcome(),
    };
    let steps = trainer.trace(round).await.map_err(DutyError::trainer)?;
    let state = match duty.worker_trace.as_ref().filter(|_| !is_worker).and_then(|theirs| first_difference(&theirs.steps, &steps))
    {
        // Where the worker took more steps than there are, our last one is as good as any: the one in dispute can't be computed.
        Some(step) if !steps.is_empty() => {
            let step = step.min(steps.len() as u32 - 1);
            let state = trainer.save_step(round, step).await.map_err(DutyError::trainer)?;
            Some(context.client.put_blob(&context.key, &context.chain, state, COPIES).await?)
        }
        _ => None,
    };
    trainer.stop().await;
    say(context, Action::Trace { audit: duty.audit, trace: RoundTrace { outcome, steps }, state }).await
}

/// The first step after which two states differ; none where all are equal.
fn first_difference(theirs: &[Hash], ours: &[Hash]) -> Option<u32> {
    let both = theirs.iter().zip(ours).position(|(a, b)| a != b);
    both.or((theirs.len() != ours.len()).then_some(theirs.len().min(ours.len()))).map(|step| step as u32)
}

/// Brings a word into a block.
pub(crate) async fn say(context: &Context, action: Action) -> Result<(), DutyError> {
    let height = context.client.status().await?.height.0;
    let expires = Height(height.saturating_add(VALID_BLOCKS));
    let transaction = Transaction::sign(&context.key, &context.chain, 0, expires, action);
    context.client.submit(&transaction, SUBMIT_WITHIN).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_on_which_two_differ_is_found_also_where_one_took_fewer() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Hash::of(bytes));
        assert_eq!(first_difference(&[a, b, c], &[a, b, c]), None);
        assert_eq!(first_difference(&[a, b, c], &[a, c, c]), Some(1));
        assert_eq!(first_difference(&[a], &[a, b]), Some(1));
        assert_eq!(first_difference(&[], &[]), None);
    }
}
