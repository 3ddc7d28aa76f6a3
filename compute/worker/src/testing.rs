//! Agents and trainers that cheat, for tests of what finds them. Not a part of the product: only with the feature `test-utils`.

mod liar;

use std::{fs, str::FromStr, time::Duration};

use deepmarket_api::{AuditDuty, AuditTask};
use deepmarket_types::{Action, Finding, Hash, Height, LeaseOutcome, Receipt, RoundOutcome, Transaction, decode};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use liar::{Lie, Real, lying_trainer};

pub use crate::{committer::round_salt, replay::contradiction};

use crate::{
    WorkerConfig, WorkerError, agent,
    answers::Answer,
    auditor::{Found, examine},
    duties::{self, DutyError},
    lease::{COPIES, Context},
};

/// How an agent cheats in audits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cheat {
    /// Not at all.
    #[default]
    Honest,
    /// It never discloses.
    SilentAtAudit,
    /// It discloses another state than the round's.
    WrongEvidence,
    /// As an auditor it says that the answer is another one, whatever it computed.
    LyingAuditor,
    /// As an auditor it says that the answer is right, and computes nothing.
    YesSayer,
    /// As an auditor it says that the evidence is of no use, and doesn't look at it.
    UnusableSayer,
    /// As an auditor it never shows its answer.
    NoReveal,
    /// It sends two different receipts of one number.
    Contradictory,
}

impl FromStr for Cheat {
    type Err = String;

    fn from_str(name: &str) -> Result<Cheat, String> {
        Ok(match name {
            "honest" => Cheat::Honest,
            "silent-at-audit" => Cheat::SilentAtAudit,
            "wrong-evidence" => Cheat::WrongEvidence,
            "lying-auditor" => Cheat::LyingAuditor,
            "yes-sayer" => Cheat::YesSayer,
            "unusable-sayer" => Cheat::UnusableSayer,
            "no-reveal" => Cheat::NoReveal,
            "contradictory" => Cheat::Contradictory,
            other => return Err(format!("no cheat is called {other}")),
        })
    }
}

/// As [`crate::run`], but cheating.
pub async fn run(config: WorkerConfig, cheat: Cheat, stop: CancellationToken) -> Result<(), WorkerError> {
    let contradicting = (cheat == Cheat::Contradictory).then(|| AbortOnDropHandle::new(tokio::spawn(contradict(config.clone()))));
    let result = agent::run_with(config, cheat, stop).await;
    drop(contradicting);
    result
}

/// What a cheat does instead of a duty; none where it does what it should.
pub(crate) async fn instead(context: &Context, duty: &AuditDuty) -> Option<Result<(), DutyError>> {
    match (context.cheat, duty.task) {
        (Cheat::SilentAtAudit, AuditTask::Disclose) | (Cheat::NoReveal, AuditTask::Reveal) => Some(Ok(())),
        (Cheat::WrongEvidence, AuditTask::Disclose) => Some(wrong_evidence(context, duty).await),
        (cheat, AuditTask::Compute) if duty.finding.is_none() => lying_answer(context, duty, cheat).await,
        _ => None,
    }
}

async fn wrong_evidence(context: &Context, duty: &AuditDuty) -> Result<(), DutyError> {
    let (mut disclosure, mut evidence) = duties::opening(context, duty).await?;
    // The last float of the last tensor.
    if let Some(last) = evidence.state.len().checked_sub(4) {
        evidence.state[last..].copy_from_slice(&0.5_f32.to_le_bytes());
    }
    let blob = evidence.to_bytes();
    disclosure.evidence = context.client.put_blob(&context.key, &context.chain, blob, COPIES).await?;
    duties::say(context, Action::Disclose(disclosure)).await
}

async fn lying_answer(context: &Context, duty: &AuditDuty, cheat: Cheat) -> Option<Result<(), DutyError>> {
    let made_up = |name: &[u8]| Hash::tagged("deepmarket/v1/made-up", &[name, &duty.audit.0.to_le_bytes()]);
    let samples = duty.disclosed.as_ref()?.commitment.samples;
    let outcome = RoundOutcome {
        inputs: made_up(b"inputs"),
        steps: made_up(b"steps"),
        output: made_up(b"output"),
        exchange: made_up(b"exchange"),
        samples,
    };
    let answer = match cheat {
        Cheat::YesSayer => duties::answer_of(context, duty.audit, Ok(Found::Equal(outcome))),
        Cheat::UnusableSayer => Answer { finding: Finding::Unusable, outcome: None },
        Cheat::LyingAuditor => {
            let found = examine(context, duty, &duties::blobs(context, duty)).await;
            let honest = match found {
                Ok(Found::Equal(outcome) | Found::Different(outcome)) => outcome,
                Err(_) => outcome,
            };
            let lie = RoundOutcome { output: made_up(b"output"), ..honest };
            duties::answer_of(context, duty.audit, Ok(Found::Different(lie)))
        }
        _ => return None,
    };
    Some(duties::give(context, duty.audit, answer).await)
}

/// Sends a second receipt of the number of each one that this machine signed: with more samples.
async fn contradict(config: WorkerConfig) {
    let folder = config.home.join("leases");
    let mut last = None;
    loop {
        sleep(Duration::from_millis(50)).await;
        let files = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        let receipts = files.filter_map(|file| decode::<Receipt>(&fs::read(file.path()).ok()?).ok());
        let running = receipts.filter(|receipt| receipt.outcome == LeaseOutcome::Running && receipt.rounds > receipt.from);
        let Some(receipt) = running.max_by_key(|receipt| receipt.lease).filter(|receipt| last != Some(*receipt)) else {
            continue;
        };
        last = Some(receipt);
        let Ok(status) = config.client.status().await else { continue };
        let other = Receipt { samples: receipt.samples + 1, ..receipt };
        let expires = Height(status.height.0 + 100);
        let transaction = Transaction::sign(&config.key, &config.chain, 0, expires, Action::Receipt(other));
        if let Err(e) = config.client.submit(&transaction, Duration::from_secs(5)).await {
            tracing::info!(sequence = receipt.sequence, "a contradictory receipt was refused: {e}");
        }
    }
}
