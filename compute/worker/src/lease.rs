//! One lease from its assignment to its final receipt.

use std::{sync::Arc, time::Duration};

use deepmarket_api::{Assignment, Client, ProgressKind};
use deepmarket_job::{JobSpec, Schedule, protocol::Request};
use deepmarket_net::{GroupSpec, Net, PeerAddress};
use deepmarket_types::{ChainId, FailureReason, Hash, LeaseOutcome, SecretKey};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoints::Checkpoints,
    commitments::Committer,
    data::{Source, shards_of},
    error::LeaseFailure,
    journal::Journal,
    progress::Reporter,
    receipts::{Book, Receipts, ReceiptsSetup, Tally},
    rounds::{Rounds, Totals},
    trainer::{ROUND_WITHIN, TrainerLimits, TrainerProcess},
};

/// How long the ranks wait for each other at the beginning.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// How long a rank that lost another one waits for that one's own words: the chain should say why it went, not that the
/// others noticed.
const BLAME_GRACE: Duration = Duration::from_secs(10);
/// How long the last words of a lease may take when the machine's owner wants it back.
const OWNER_WAITS: Duration = Duration::from_secs(4);
/// How long the last progress may take.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);
/// Copies of the model that are asked for, and the pause after a failed attempt; doubles up to the second value.
pub(crate) const COPIES: usize = 2;
const UPLOAD_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Attempts that may be refused for good before the upload counts as impossible.
const UPLOAD_REFUSALS: u32 = 5;

/// What all leases of an agent share.
pub(crate) struct Context {
    pub chain: ChainId,
    pub key: SecretKey,
    pub client: Client,
    pub net: Net,
    pub trainer: std::path::PathBuf,
    pub journal: Journal,
    pub receipt_ms: u64,
    /// The owner wants the machine back.
    pub stop: CancellationToken,
}

/// Serves a lease until it is over. `ended` is cancelled when the chain says that it isn't active any more.
pub(crate) async fn serve(context: Arc<Context>, assignment: Assignment, ended: CancellationToken) {
    let Assignment { job, lease, rank, sequence, .. } = assignment;
    let signed = context.journal.last(lease);
    let again = sequence > 0 || signed.is_some();
    let reporter = Reporter::start(context.client.clone(), context.chain, context.key.clone(), job, rank, again);
    let receipts = Receipts::start(ReceiptsSetup {
        client: context.client.clone(),
        chain: context.chain,
        key: context.key.clone(),
        journal: context.journal.clone(),
        book: Book::new(job, lease, rank, sequence, signed),
        ended: ended.clone(),
        receipt_ms: context.receipt_ms,
    });
    tracing::info!(%job, %lease, rank, "serving a lease");
    // It outlives the work: a checkpoint that is on its way may still be named by the last receipt.
    let checkpoints = Checkpoints::start(context.client.clone(), context.chain, context.key.clone(), job, &receipts);
    let (reporter, receipts) = (&reporter, &receipts);
    let work = Work { context: &context, assignment: &assignment, reporter, receipts, checkpoints: &checkpoints };
    // Dropping the work kills its trainer and closes its streams, which the other ranks notice at once.
    let result = tokio::select! {
        biased;
        () = ended.cancelled() => None,
        () = context.stop.cancelled() => Some(Err(owner_returned())),
        result = work.run(again) => Some(result),
    };
    let Some(result) = result else {
        tracing::info!(%job, %lease, "the chain ended the lease; its trainer is stopped");
        reporter.log("stopped: the lease isn't active any more");
        return reporter.flush(FLUSH_WITHIN).await;
    };
    let outcome = match result {
        Ok((model, totals)) => {
            report_done(reporter, &totals);
            LeaseOutcome::Finished(model)
        }
        Err(failure) => {
            tracing::warn!(%job, %lease, "{failure}");
            reporter.log(format!("failed: {failure}"));
            if failure.reason == FailureReason::PeerLost {
                wait_for_blame(&context, &ended).await;
            }
            LeaseOutcome::Failed(failure.reason)
        }
    };
    let owner_waits = context.stop.is_cancelled();
    if !owner_waits {
        reporter.flush(FLUSH_WITHIN).await;
    }
    let told = tokio::select! {
        told = receipts.finish(outcome, owner_waits.then_some(OWNER_WAITS)) => told,
        () = give_up(&context.stop, owner_waits) => false,
    };
    match told {
        true => tracing::info!(%job, %lease, ?outcome, "the lease is over"),
        false => tracing::warn!(%job, %lease, ?outcome, "the lease is over, but the chain could not be told in time"),
    }
}

fn owner_returned() -> LeaseFailure {
    LeaseFailure::new(FailureReason::OwnerReturned, "the agent was stopped")
}

async fn wait_for_blame(context: &Context, ended: &CancellationToken) {
    tokio::select! {
        () = ended.cancelled() => {}
        () = context.stop.cancelled() => {}
        () = sleep(BLAME_GRACE) => {}
    }
}

/// Some time after the owner asked for the machine (for ever, where a limit is set already).
async fn give_up(stop: &CancellationToken, limited: bool) {
    if limited {
        std::future::pending::<()>().await;
    }
    stop.cancelled().await;
    sleep(OWNER_WAITS).await;
}

fn report_done(reporter: &Reporter, totals: &Totals) {
    let ms = |duration: Duration| duration.as_millis() as u64;
    reporter.report(ProgressKind::Done {
        peak_ram_mib: totals.peak_ram_mib,
        cpu_ms: totals.tally.cpu_ms,
        compute_ms: ms(totals.compute),
        exchange_ms: ms(totals.exchange),
        wait_ms: ms(totals.wait),
        sent_bytes: totals.sent_bytes,
        received_bytes: totals.received_bytes,
        fetched_bytes: totals.fetched_bytes,
    });
}

/// The name of the group that the ranks of a job's leases form: another set of leases is another group.
fn group_id(assignment: &Assignment) -> Hash {
    let mut parts = vec![assignment.job.0.to_le_bytes()];
    parts.extend(assignment.ranks.iter().map(|rank| rank.lease.0.to_le_bytes()));
    Hash::tagged("deepmarket/v1/group", &parts.iter().map(|part| part.as_slice()).collect::<Vec<_>>())
}

struct Work<'a> {
    context: &'a Context,
    assignment: &'a Assignment,
    reporter: &'a Reporter,
    receipts: &'a Receipts,
    checkpoints: &'a Checkpoints,
}

impl Work<'_> {
    /// Fetches the data, trains, and stores the model; returns the model's hash.
    async fn run(&self, again: bool) -> Result<(Hash, Totals), LeaseFailure> {
        let Assignment { rank, resources, .. } = *self.assignment;
        if again {
            let what = "the agent was restarted in the middle of this lease, and this release can't take up where it was";
            return Err(LeaseFailure::new(FailureReason::TrainerCrashed, what));
        }
        let spec = self.spec()?;
        let peers = self.peers()?;
        let world = peers.len() as u32;
        let limits = TrainerLimits { ram_mib: Some(resources.ram_mib) };
        let mut trainer = TrainerProcess::spawn(&self.context.trainer, &limits)?;
        self.reporter.log(format!("rank {rank} of {world}: started its trainer, fetching data"));

        let mut totals = Totals::default();
        let group = self.group(peers.clone());
        let prepare = self.prepare(&mut trainer, &spec, &peers, &mut totals);
        let (mut group, (parameters, train_samples, evaluates)) = futures::try_join!(group, prepare)?;
        self.reporter.log(format!("rank {rank} of {world}: all ranks are here, training begins"));

        let rounds = Rounds {
            trainer: &mut trainer,
            group: &mut group,
            schedule: Schedule::new(&spec, train_samples, world),
            epochs: spec.training.epochs.into(),
            evaluates,
            reporter: self.reporter,
            receipts: self.receipts,
            // All ranks hold the same model; one of them stores it.
            checkpoints: (self.checkpoints, if rank == 0 { spec.recovery.checkpoint_rounds } else { 0 }),
            committer: Committer::new(self.context.chain, self.assignment.job, self.assignment.lease, rank, &self.context.key),
        };
        let totals = rounds.run(parameters, totals).await?;
        group.leave().await;
        let model = trainer.export().await?;
        trainer.stop().await;
        let hash = Hash::of(&model);
        if rank == 0 {
            self.upload(model).await?;
        }
        Ok((hash, totals))
    }

    fn spec(&self) -> Result<JobSpec, LeaseFailure> {
        let unusable =
            |e: String| LeaseFailure::new(FailureReason::DataUnavailable, format!("the job's spec can't be used: {e}"));
        let bytes = hex::decode(&self.assignment.spec).map_err(|e| unusable(e.to_string()))?;
        JobSpec::from_bytes(&bytes).map_err(|e| unusable(e.to_string()))
    }

    fn peers(&self) -> Result<Vec<PeerAddress>, LeaseFailure> {
        let ranks = self.assignment.ranks.iter().zip(0..);
        ranks
            .map(|(view, rank)| {
                if view.rank != rank {
                    return Err(LeaseFailure::new(FailureReason::PeerLost, format!("the assignment has no rank {rank}")));
                }
                Ok(PeerAddress::of_key(&view.key, view.addresses.clone())?)
            })
            .collect()
    }

    async fn group(&self, peers: Vec<PeerAddress>) -> Result<deepmarket_net::Group, LeaseFailure> {
        let mut spec = GroupSpec::new(self.assignment.job, group_id(self.assignment), self.assignment.rank, peers);
        spec.join_within = JOIN_WITHIN;
        // The slowest rank may take as long as its own agent allows, and a little for the way.
        spec.round_within = ROUND_WITHIN + Duration::from_secs(60);
        Ok(self.context.net.join(spec).await?)
    }

    /// Builds the model and loads this rank's shards. Returns the hash of the initial parameters, the samples of the whole
    /// training split, and whether this rank has something to evaluate on.
    async fn prepare(
        &self,
        trainer: &mut TrainerProcess,
        spec: &JobSpec,
        peers: &[PeerAddress],
        totals: &mut Totals,
    ) -> Result<(Hash, u64, bool), LeaseFailure> {
        let Assignment { rank, seed, .. } = *self.assignment;
        let world = peers.len() as u32;
        let source = Source { net: &self.context.net, client: &self.context.client, ranks: peers, rank };
        let manifest = source.manifest(spec).await?;
        let unusable = |e| LeaseFailure::new(FailureReason::DataUnavailable, e);
        let train_samples = manifest.split(&spec.data.train).map_err(unusable)?.samples;
        let shards = shards_of(&manifest, spec, world, rank).map_err(unusable)?;
        let evaluates = shards.iter().any(|(part, _)| *part == deepmarket_job::protocol::Part::Validate);
        let start = Request::Start { spec: spec.to_bytes(), seed, rank, world, train_samples, data: manifest.to_bytes() };
        let parameters = trainer.start(start).await?;
        self.receipts.record(Tally { parameters, ..Tally::default() });
        let trainer = tokio::sync::Mutex::new(trainer);
        let trainer = &trainer;
        let take = |part, bytes| async move {
            trainer.lock().await.shard(part, bytes).await?;
            Ok(())
        };
        totals.fetched_bytes = source.shards(&shards, self.reporter, take).await?;
        Ok((parameters, train_samples, evaluates))
    }

    /// Stores the model at gateways, however long they take to come back.
    async fn upload(&self, model: Vec<u8>) -> Result<(), LeaseFailure> {
        let Context { client, key, chain, .. } = self.context;
        let model = bytes::Bytes::from(model);
        let (mut pause, mut refusals) = (UPLOAD_PAUSE.0, 0);
        loop {
            let error = match client.put_blob(key, chain, model.clone(), COPIES).await {
                Ok(hash) => {
                    tracing::info!(%hash, bytes = model.len(), "the model is stored");
                    return Ok(());
                }
                Err(error) => error,
            };
            refusals += u32::from(!error.retryable());
            if refusals >= UPLOAD_REFUSALS {
                let what = format!("the model can't be stored: {error}");
                return Err(LeaseFailure::new(FailureReason::DataUnavailable, what));
            }
            tracing::warn!("storing the model failed, trying again: {error}");
            sleep(pause).await;
            pause = (pause * 2).min(UPLOAD_PAUSE.1);
        }
    }
}
