//! A validator's part in a dispute: it computes the one step on which worker and auditors disagree (DESIGN section 7).

use std::time::Duration;

use deepmarket_api::{AuditDuty, Client};
use deepmarket_job::Evidence;
use deepmarket_types::{Action, AuditId, ChainId, Hash, Height, SecretKey, Transaction};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    TrainerProgram,
    auditor::fetch_evidence,
    replay::{Blobs, ReplayError, Subject},
};

/// How often the chain is asked for disputes.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long blobs are looked for.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// How long one word waits for a block, and how many blocks it stays valid.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
const VALID_BLOCKS: u64 = 100;
/// How often one step is tried before the validator says that it can't be computed.
const TRIES: u32 = 3;

/// Who judges.
#[derive(Clone)]
pub struct JudgeConfig {
    /// The market.
    pub chain: ChainId,
    /// The validator's key.
    pub key: SecretKey,
    /// The market's gateways.
    pub client: Client,
    /// The trainer's program.
    pub trainer: TrainerProgram,
}

/// Computes disputed steps and tells the chain what they give, until `stop` is cancelled. One at a time; each is said once.
pub async fn judge_disputes(config: JudgeConfig, stop: CancellationToken) {
    let mut said: Vec<AuditId> = Vec::new();
    let work = async {
        loop {
            let duties = config.client.judging().await.unwrap_or_else(|e| {
                tracing::debug!("no disputes just now: {e}");
                Vec::new()
            });
            for duty in duties {
                if said.contains(&duty.audit) {
                    continue;
                }
                let step = judge(&config, &duty).await;
                match tell(&config, duty.audit, step).await {
                    Ok(()) => tracing::info!(audit = %duty.audit, ?step, "judged a disputed step"),
                    // Said already, in an earlier life, or decided by others.
                    Err(e) if !e.retryable() => tracing::info!(audit = %duty.audit, "a judgement was refused: {e}"),
                    Err(e) => {
                        tracing::warn!(audit = %duty.audit, "a judgement waits: {e}");
                        continue;
                    }
                }
                said.push(duty.audit);
            }
            sleep(POLL_EVERY).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn tell(config: &JudgeConfig, audit: AuditId, step: Option<Hash>) -> Result<(), deepmarket_api::ApiError> {
    let height = config.client.status().await?.height.0;
    let expires = Height(height.saturating_add(VALID_BLOCKS));
    let action = Action::Judge { audit, step };
    let transaction = Transaction::sign(&config.key, &config.chain, 0, expires, action);
    config.client.submit(&transaction, SUBMIT_WITHIN).await?;
    Ok(())
}

/// The hash of the state after a disputed step; of the update, where a round is one shared step. None where it can't be computed: the
/// state before it isn't there, or isn't the one on which both sides agree.
pub async fn judge(config: &JudgeConfig, duty: &AuditDuty) -> Option<Hash> {
    for attempt in 1..=TRIES {
        match compute(config, duty).await {
            Ok(step) => return Some(step),
            Err(error) => tracing::warn!(audit = %duty.audit, attempt, "the disputed step can't be computed: {error}"),
        }
    }
    None
}

async fn compute(config: &JudgeConfig, duty: &AuditDuty) -> Result<Hash, ReplayError> {
    let unusable = |what: &str| ReplayError::Unusable(what.to_owned());
    let disputed = duty.disputed.as_ref().ok_or_else(|| unusable("no step is in dispute"))?;
    let disclosed = duty.disclosed.as_ref().ok_or_else(|| unusable("nothing is disclosed"))?;
    let evidence = fetch_evidence(&config.client, &disclosed.evidence, FETCH_WITHIN).await?;
    let blobs = Blobs::Gateways(&config.client);
    let subject = Subject::of(duty, &blobs).await?;
    // What the evidence leads to is the worker's own word of where the round began.
    let mut trainer = subject.replay(&config.trainer, duty, &blobs, &evidence).await?;
    let Evidence { round, .. } = evidence;
    let state = match (disputed.step, &disputed.state) {
        (0, _) => trainer.save_step(round, 0).await.map_err(ReplayError::of_round)?,
        (_, None) => return Err(unusable("the state before the step isn't named")),
        (_, Some(state)) => {
            let bytes = config.client.get_blob(*state, &|_| {}).await.map_err(|e| ReplayError::Unable(e.to_string()))?;
            bytes.into()
        }
    };
    let stepped = trainer.step(round, disputed.step, state).await.map_err(ReplayError::of_round)?;
    trainer.stop().await;
    match disputed.before {
        Some(before) if before != stepped.before => Err(unusable("the state before the step is another one than both agree on")),
        _ => Ok(stepped.after),
    }
}
