//! A round that somebody else computed, computed again from what it was computed from (DESIGN section 7).
//!
//! ```text
//! evidence ─ contradicts the chain? ─▶ unusable
//!     │
//!     └─▶ trainer: Start ─ shards ─ Restore ─ Apply … Apply ─▶ at the state before the round
//!                                     └─ parameters as in the lease's receipts? ─▶ unusable
//! ```

use deepmarket_api::{ApiError, AuditDuty, Client};
use deepmarket_job::{
    DatasetManifest, Evidence, JobSpec, Mode, Shard,
    protocol::{Part, Request, bytes_to_floats},
};
use deepmarket_types::{FailureReason, Hash};

use crate::{
    TrainerError,
    data::{MAX_MANIFEST_BYTES, Source},
    trainer::{TrainerProcess, TrainerProgram},
};

/// Why a round can't be computed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayError {
    /// By what the worker gave: it isn't there, or can't be the round's inputs.
    #[error("the round's inputs can't be used: {0}")]
    Unusable(String),
    /// By what is here: no data, no memory, a trainer that crashed.
    #[error("this machine can't compute the round: {0}")]
    Unable(String),
}

use ReplayError::{Unable, Unusable};

impl ReplayError {
    /// Of a request that has nothing to do with what the worker gave.
    fn ours(error: TrainerError) -> ReplayError {
        Unable(error.to_string())
    }

    /// Of a request that hands over what the worker gave: a trainer that refuses it is right; one that ends is out of order.
    fn theirs(error: TrainerError) -> ReplayError {
        match error {
            TrainerError::Failed { reason, message } if reason != FailureReason::OutOfMemory => Unusable(message),
            error => Unable(error.to_string()),
        }
    }

    /// Of a round: what diverges now diverged then.
    pub fn of_round(error: TrainerError) -> ReplayError {
        match error {
            TrainerError::Failed { reason: FailureReason::Diverged, message } => Unusable(message),
            error => Unable(error.to_string()),
        }
    }
}

/// Where a dataset comes from.
pub(crate) enum Blobs<'a> {
    /// A lent machine, which may have much of it.
    Machine(Source),
    /// Somebody who only knows the gateways.
    Gateways(&'a Client),
}

impl Blobs<'_> {
    async fn get(&self, hash: &Hash, limit: u64) -> Result<Vec<u8>, ReplayError> {
        match self {
            Blobs::Machine(source) => source.fetch(hash, limit, &|_| {}).await.map_err(|e| Unable(e.to_string())),
            Blobs::Gateways(client) => {
                client.get_blob(*hash, &|_| {}).await.map(Vec::from).map_err(|e: ApiError| Unable(e.to_string()))
            }
        }
    }
}

/// The job of a duty.
pub(crate) struct Subject {
    pub spec: JobSpec,
    pub manifest: DatasetManifest,
    /// The training split.
    pub shards: Vec<Shard>,
}

impl Subject {
    /// Reads the spec and fetches the manifest.
    pub async fn of(duty: &AuditDuty, blobs: &Blobs<'_>) -> Result<Subject, ReplayError> {
        let unable = |e: &dyn std::fmt::Display| Unable(format!("the job's spec or manifest can't be used: {e}"));
        let bytes = hex::decode(&duty.spec).map_err(|e| unable(&e))?;
        let spec = JobSpec::from_bytes(&bytes).map_err(|e| unable(&e))?;
        let manifest = blobs.get(&spec.data.manifest, MAX_MANIFEST_BYTES).await?;
        let manifest = DatasetManifest::from_bytes(&manifest).map_err(|e| unable(&e))?;
        let shards = manifest.split(&spec.data.train).map_err(|e| unable(&e))?.shards.clone();
        Ok(Subject { spec, manifest, shards })
    }

    /// A trainer with the round's shards.
    pub async fn trainer(
        &self,
        program: &TrainerProgram,
        duty: &AuditDuty,
        blobs: &Blobs<'_>,
        shards: &[u32],
    ) -> Result<TrainerProcess, ReplayError> {
        let mut trainer = program.start(&duty.resources).map_err(ReplayError::ours)?;
        let (seed, world) = (duty.seed, duty.world);
        let train_samples = self.shards.iter().map(|shard| shard.samples).sum();
        let (spec, data) = (self.spec.to_bytes(), self.manifest.to_bytes());
        trainer.start(Request::Start { spec, seed, world, train_samples, data }).await.map_err(ReplayError::ours)?;
        for index in shards {
            let shard = &self.shards[*index as usize];
            let bytes = blobs.get(&shard.hash, shard.bytes).await?;
            trainer.shard(Part::Train, *index, bytes).await.map_err(ReplayError::ours)?;
        }
        trainer.assign(shards.to_vec(), Vec::new()).await.map_err(ReplayError::ours)?;
        Ok(trainer)
    }

    /// A trainer at the state before the audited round.
    pub async fn replay(
        &self,
        program: &TrainerProgram,
        duty: &AuditDuty,
        blobs: &Blobs<'_>,
        evidence: &Evidence,
    ) -> Result<TrainerProcess, ReplayError> {
        if let Some(what) = contradiction(evidence, duty, &self.spec, self.shards.len() as u32) {
            return Err(Unusable(what));
        }
        let mut trainer = self.trainer(program, duty, blobs, &evidence.shards).await?;
        let (parameters, round, _) = trainer.restore(evidence.state.clone()).await.map_err(ReplayError::theirs)?;
        let begin = evidence.applied - evidence.averages.len() as u64;
        if round != begin {
            return Err(Unusable(format!("the state is one after {round} rounds, where one after {begin} is due")));
        }
        check_parameters(duty, begin, &parameters)?;
        for (at, average) in (begin + 1..).zip(&evidence.averages) {
            let floats = bytes_to_floats(average).ok_or_else(|| Unusable("an average is no list of floats".into()))?;
            let parameters = trainer.apply(&floats).await.map_err(ReplayError::theirs)?;
            check_parameters(duty, at, &parameters)?;
        }
        Ok(trainer)
    }
}

/// What of the evidence contradicts what the chain and the dataset say, before anything is computed.
///
/// Where a round begins isn't checked beyond that and [`check_parameters`]: members of a team compare their parameters after each
/// round, and a worker alone who begins elsewhere computes as much as an honest one.
pub fn contradiction(evidence: &Evidence, duty: &AuditDuty, spec: &JobSpec, shards: u32) -> Option<String> {
    let Evidence { round, averages, applied, shards: own, team, .. } = evidence;
    let disclosed = duty.disclosed.as_ref()?;
    if *round != disclosed.commitment.round || *round >= duty.rounds.1 {
        return Some(format!("they are those of round {round}, and round {} was opened", disclosed.commitment.round));
    }
    if !own.is_sorted_by(|a, b| a < b) || own.iter().any(|shard| *shard >= shards) {
        return Some("the list of shards is none of this split".into());
    }
    let mut ranks = team.clone();
    ranks.sort_unstable();
    let is_team = ranks.is_sorted_by(|a, b| a < b) && ranks.iter().all(|rank| duty.leases.iter().any(|(known, _)| known == rank));
    if !is_team || !ranks.contains(&duty.rank) {
        return Some("the team isn't one of the job's workers".into());
    }
    if team.len() == 1 && own.len() as u32 != shards {
        return Some("a worker alone works on all shards".into());
    }
    let behind = match spec.training.mode {
        Mode::Sync | Mode::Local { .. } => 0,
        Mode::Async { staleness } => u64::from(staleness),
    };
    if *applied > *round || round - applied > behind || averages.len() as u64 > *applied {
        return Some(format!("round {round} isn't computed after {applied} rounds"));
    }
    if matches!(spec.training.mode, Mode::Local { .. }) && !averages.is_empty() {
        return Some("averages alone don't lead to a state in this mode".into());
    }
    None
}

/// Where a receipt tells the parameters after so many rounds, they are these.
fn check_parameters(duty: &AuditDuty, at: u64, parameters: &Hash) -> Result<(), ReplayError> {
    let told = match at {
        at if at == duty.rounds.1 => Some(duty.parameters.1),
        at if at == duty.rounds.0 => duty.parameters.0,
        _ => None,
    };
    match told {
        Some(told) if told != *parameters => {
            Err(Unusable(format!("after {at} rounds they give other parameters than the worker's receipt tells")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use deepmarket_api::{AuditTask, DisclosedView};
    use deepmarket_types::{AuditId, JobId, LeaseId, MachineId, Resources, RoundCommitment, SecretKey, TimeMs};

    use super::*;

    /// Round 40, which a team of ranks 0 and 2 exchanged; the window's receipts were written after rounds 36 and 44.
    pub(crate) fn duty() -> AuditDuty {
        AuditDuty {
            audit: AuditId(1),
            task: AuditTask::Compute,
            deadline: TimeMs(0),
            job: JobId(1),
            lease: LeaseId(5),
            rank: 2,
            machine: MachineId::from_key(&SecretKey::from_seed([1; 32]).public()),
            sequence: 9,
            index: 40,
            committed: (36, 44),
            commitments: Hash::default(),
            rounds: (36, 44),
            samples: (0, 0),
            parameters: (Some(Hash::of(b"36")), Hash::of(b"44")),
            same_class: true,
            resources: Resources::default(),
            spec: String::new(),
            seed: Hash::default(),
            world: 2,
            leases: vec![(0, LeaseId(3)), (1, LeaseId(4)), (2, LeaseId(5))],
            disclosed: Some(DisclosedView {
                commitment: RoundCommitment { round: 40, samples: 8, total_samples: 80, sealed: Hash::default() },
                salt: Hash::default(),
                evidence: Hash::default(),
            }),
            finding: None,
            worker_trace: None,
            disputed: None,
        }
    }

    fn spec(mode: Mode) -> JobSpec {
        let text = include_str!("../../../examples/mnist.toml");
        let mut spec = JobSpec::from_toml(text, &|_| Some(Hash::of(b"mnist"))).unwrap();
        spec.training.mode = mode;
        spec
    }

    fn evidence() -> Evidence {
        let (state, averages) = (vec![1], vec![vec![0; 4]; 8]);
        Evidence { round: 40, state, averages, applied: 40, shards: vec![1, 4], team: vec![0, 2], update: None, steps: None }
    }

    #[test]
    fn evidence_that_contradicts_the_chain_is_refused_before_anything_is_computed() {
        let found = |change: fn(&mut Evidence)| {
            let mut evidence = evidence();
            change(&mut evidence);
            contradiction(&evidence, &duty(), &spec(Mode::Sync), 6)
        };
        assert_eq!(found(|_| {}), None);
        let changes: [fn(&mut Evidence); 11] = [
            |e| e.round = 41,
            |e| e.shards = vec![4, 1],
            |e| e.shards = vec![1, 1],
            |e| e.shards = vec![1, 6],
            |e| e.team = vec![0, 1],
            |e| e.team = vec![0, 2, 2],
            |e| e.team = vec![2, 7],
            |e| e.team = vec![2],
            |e| e.applied = 39,
            |e| e.applied = 41,
            |e| e.averages = vec![vec![]; 41],
        ];
        for change in changes {
            assert!(found(change).is_some());
        }
        assert_eq!(found(|e| (e.team, e.shards) = (vec![2], (0..6).collect())), None);
    }

    #[test]
    fn in_async_a_round_may_be_computed_ahead_and_in_local_each_has_its_own_state() {
        let behind = |applied, staleness| {
            let evidence = Evidence { applied, ..evidence() };
            contradiction(&evidence, &duty(), &spec(Mode::Async { staleness }), 6).is_none()
        };
        assert!(behind(40, 2) && behind(38, 2) && !behind(37, 2) && !behind(41, 2));
        let local = spec(Mode::Local { steps: 4, outer: deepmarket_job::Outer::Average });
        assert!(contradiction(&evidence(), &duty(), &local, 6).is_some());
        assert_eq!(contradiction(&Evidence { averages: vec![], ..evidence() }, &duty(), &local, 6), None);
    }

    #[test]
    fn parameters_on_the_way_are_those_of_the_receipts() {
        let duty = duty();
        assert_eq!(check_parameters(&duty, 36, &Hash::of(b"36")), Ok(()));
        assert!(check_parameters(&duty, 36, &Hash::of(b"35")).is_err());
        assert_eq!(check_parameters(&duty, 37, &Hash::of(b"35")), Ok(()), "no receipt tells these");
        assert!(check_parameters(&duty, 44, &Hash::of(b"35")).is_err());
    }
}
