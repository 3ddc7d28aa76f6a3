//! What an auditor finds: it computes the round and tries whether the answer opens the worker's seal.

use std::time::Duration;

use deepmarket_api::{ApiError, AuditDuty, Client};
use deepmarket_job::{Evidence, Mode, protocol::bytes_to_floats};
use deepmarket_net::part_hashes;
use deepmarket_types::{Hash, RoundOutcome, exchange_root, seal, steps_root};
use tokio::time::{Instant, sleep};

use crate::{
    lease::Context,
    replay::{Blobs, ReplayError, Subject},
    tolerance::{Closeness, closeness},
    trainer::Update,
};

/// How long evidence is looked for before it counts as missing: gateways may be on their way back.
const EVIDENCE_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(500);
/// The most steps of a round over which machines of two classes were measured to stay close.
const COMPARED_STEPS: u32 = 10;

/// What an auditor found, with what it will show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Equal(RoundOutcome),
    Different(RoundOutcome),
}

/// Computes the round of a duty.
pub(crate) async fn examine(context: &Context, duty: &AuditDuty, blobs: &Blobs<'_>) -> Result<Found, ReplayError> {
    let disclosed = duty.disclosed.as_ref().ok_or_else(|| ReplayError::Unable("nothing is disclosed yet".into()))?;
    let evidence = fetch_evidence(&context.client, &disclosed.evidence, patience(duty)).await?;
    let subject = Subject::of(duty, blobs).await?;
    let mut trainer = subject.replay(&context.trainer, duty, blobs, &evidence).await?;
    let computed = trainer.round(evidence.round, evidence.team.len()).await.map_err(ReplayError::of_round)?;
    trainer.stop().await;
    let opens = |outcome: &RoundOutcome| seal(&outcome.answer(), &disclosed.salt) == disclosed.commitment.sealed;
    judge_answer(&computed, &evidence, (!duty.same_class).then_some(&subject.spec.training.mode), opens)
}

/// Gateways are asked for a third of the time at most.
fn patience(duty: &AuditDuty) -> Duration {
    let left = duty.deadline.0.saturating_sub(crate::progress::now().0);
    EVIDENCE_WITHIN.min(Duration::from_millis(left / 3))
}

/// The evidence's blob. One that no gateway has in time is the worker's fault; gateways that don't answer aren't.
pub(crate) async fn fetch_evidence(client: &Client, hash: &Hash, within: Duration) -> Result<Evidence, ReplayError> {
    let deadline = Instant::now() + within;
    loop {
        let error = match client.get_blob(*hash, &|_| {}).await {
            Ok(bytes) => return Evidence::from_bytes(&bytes).map_err(|e| ReplayError::Unusable(e.to_string())),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(match error {
                ApiError::NoSuchBlob(_) => ReplayError::Unusable(error.to_string()),
                error => ReplayError::Unable(error.to_string()),
            });
        }
        sleep(PAUSE).await;
    }
}

/// Which of both it is. A machine of another class gets other bits: where the worker's update is close to its own, the answer that
/// follows from it counts.
fn judge_answer(
    computed: &Update,
    evidence: &Evidence,
    other_class: Option<&Mode>,
    opens: impl Fn(&RoundOutcome) -> bool,
) -> Result<Found, ReplayError> {
    let own = computed.outcome();
    match (&evidence.update, other_class) {
        _ if opens(&own) => Ok(Found::Equal(own)),
        (_, None) => Ok(Found::Different(own)),
        // Rounding grows with each step: after more than were measured nobody can tell it from a lie.
        (_, Some(Mode::Local { steps, .. })) if *steps > COMPARED_STEPS => {
            Err(ReplayError::Unable("this machine computes other bits, and the round has too many steps to compare them".into()))
        }
        (None, _) => Err(ReplayError::Unable("this machine computes other bits, and the worker's update isn't shown".into())),
        (Some(update), Some(mode)) => {
            let theirs = bytes_to_floats(update).filter(|theirs| theirs.len() == computed.values.len());
            let theirs = theirs.ok_or_else(|| ReplayError::Unusable("the update has another length".into()))?;
            match closeness(&theirs, &computed.values, mode) {
                Closeness::Same => {}
                Closeness::Unclear => {
                    return Err(ReplayError::Unable("the update is neither close to its own nor far from it".into()));
                }
                Closeness::Other => return Ok(Found::Different(own)),
            }
            let claimed = claimed_outcome(&own, update, evidence);
            match opens(&claimed) {
                true => Ok(Found::Equal(claimed)),
                false => Err(ReplayError::Unusable("the update that is shown isn't the one that was committed to".into())),
            }
        }
    }
}

/// The outcome that follows from the worker's update: inputs and samples are the auditor's own.
fn claimed_outcome(own: &RoundOutcome, update: &[u8], evidence: &Evidence) -> RoundOutcome {
    let output = Hash::tagged("deepmarket/v1/update", &[update]);
    // A shared step has no state of its own; of several, the auditor can only compare where they lead.
    let steps = evidence.steps.unwrap_or_else(|| steps_root(&[output]));
    let exchange = exchange_root(&part_hashes(update, evidence.team.len() as u32));
    RoundOutcome { output, steps, exchange, ..*own }
}

#[cfg(test)]
mod tests {
    use deepmarket_job::protocol::floats_to_bytes;

    use super::*;

    fn update(values: &[f32]) -> Update {
        let bytes = floats_to_bytes(values);
        let output = Hash::tagged("deepmarket/v1/update", &[&bytes]);
        Update {
            values: values.to_vec(),
            samples: 4,
            loss_sum: 1.0,
            cpu_ms: 1,
            inputs: Hash::of(b"inputs"),
            steps: steps_root(&[output]),
            output,
            parts: part_hashes(&bytes, 2),
            peak_ram_mib: 1,
        }
    }

    fn evidence(update: Option<&[f32]>) -> Evidence {
        Evidence {
            round: 1,
            state: vec![],
            averages: vec![],
            applied: 1,
            shards: vec![0],
            team: vec![0, 1],
            update: update.map(floats_to_bytes),
            steps: None,
        }
    }

    #[test]
    fn inside_a_class_only_the_very_answer_opens_the_seal() {
        let (own, other) = (update(&[1.0, 2.0]), update(&[1.0, 3.0]));
        let judged = |worker: &Update| judge_answer(&own, &evidence(None), None, |o| *o == worker.outcome());
        assert_eq!(judged(&own), Ok(Found::Equal(own.outcome())));
        assert_eq!(judged(&other), Ok(Found::Different(own.outcome())));
    }

    #[test]
    fn across_classes_a_close_update_counts_if_it_is_the_one_that_was_committed_to() {
        let (own, far) = (update(&[1.0, 2.0]), update(&[-1.0, 2.0]));
        let judged = |shown: Option<&[f32]>, committed: &Update| {
            judge_answer(&own, &evidence(shown), Some(&Mode::Sync), |o| *o == committed.outcome())
        };
        assert_eq!(judged(Some(&[1.0, 2.0]), &own), Ok(Found::Equal(own.outcome())));
        assert_eq!(judged(Some(&[-1.0, 2.0]), &far), Ok(Found::Different(own.outcome())));
        assert!(matches!(judged(Some(&[1.0, 2.0]), &far), Err(ReplayError::Unusable(_))));
        assert!(matches!(judged(Some(&[1.0]), &far), Err(ReplayError::Unusable(_))));
        assert!(matches!(judged(None, &far), Err(ReplayError::Unable(_))));
        let unclear = [1.0, 2.0 + 2.0e-4];
        assert!(matches!(judged(Some(&unclear), &update(&unclear)), Err(ReplayError::Unable(_))));
    }
}
