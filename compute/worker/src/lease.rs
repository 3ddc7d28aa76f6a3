//! One lease from its assignment to its final receipt.

use std::{sync::Arc, time::Duration};

use deepmarket_api::{Assignment, Client, ProgressKind};
use deepmarket_job::{JobSpec, Kind, Mode, Schedule, protocol::Request};
use deepmarket_net::Net;
use deepmarket_types::{ChainId, FailureReason, Hash, LeaseId, LeaseOutcome, SecretKey};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    answers::Answers,
    checkpoints::Checkpoints,
    committer::Committer,
    data::Source,
    error::LeaseFailure,
    holdings::{Holdings, Share},
    journal::Journal,
    keeper::{Archive, Keeper},
    members::{Membership, Team, Trouble, peers_of},
    passes::Pass,
    progress::Reporter,
    receipts::{Book, Receipts, ReceiptsSetup, Tally},
    rounds::{Meter, Place, Totals, Training},
    trainer::TrainerProgram,
};

/// How long a worker waits for the chain's decision about another one that it missed, before it tries the members again; and where
/// that one answers, but far too late.
const MISSING_PAUSE: Duration = Duration::from_millis(500);
const LATE_PAUSE: Duration = Duration::from_secs(5);
/// How long a worker waits for the first member to store the job's result, before it stores it itself.
const UPLOAD_GRACE: Duration = Duration::from_secs(20);
/// The most bytes of a model to start from.
const MAX_MODEL_BYTES: u64 = 1 << 30;
/// How long the last words of a lease may take when the machine's owner wants it back.
const OWNER_WAITS: Duration = Duration::from_secs(4);
/// How long the last progress may take.
pub(crate) const FLUSH_WITHIN: Duration = Duration::from_secs(3);
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
    /// Where other machines reach this one; empty: where it listens.
    pub announce: Vec<String>,
    pub trainer: TrainerProgram,
    pub journal: Journal,
    /// What this machine must show of its rounds.
    pub archive: Archive,
    /// What it answered as an auditor.
    pub answers: Answers,
    pub receipt_ms: u64,
    /// The owner wants the machine back.
    pub stop: CancellationToken,
    /// Leases that wait for the chain.
    pub hurry: Hurry,
    #[cfg(feature = "test-utils")]
    pub cheat: crate::testing::Cheat,
}

/// Whether a lease waits for what the chain says, so that it is asked more often.
#[derive(Clone, Default)]
pub(crate) struct Hurry(Arc<watch::Sender<usize>>);

/// A lease waits as long as this lives.
pub(crate) struct Hurried(Hurry);

impl Hurry {
    pub fn ask(&self) -> Hurried {
        self.0.send_modify(|waiting| *waiting += 1);
        Hurried(self.clone())
    }

    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until somebody asks.
    pub async fn wanted(&self) {
        if self.0.subscribe().wait_for(|waiting| *waiting > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Hurried {
    fn drop(&mut self) {
        self.0.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Serves a lease until it is over. `ended` is cancelled when the chain says that it isn't active any more.
pub(crate) async fn serve(context: Arc<Context>, news: watch::Receiver<Assignment>, ended: CancellationToken) {
    let membership = Membership::new(news.borrow().lease, news.clone());
    let assignment = membership.now();
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
    let checkpoints = Checkpoints::start(&context, job, &reporter, &receipts);
    let (reporter, receipts) = (&reporter, &receipts);
    let work = Work { context: &context, assignment: &assignment, reporter, receipts, checkpoints: &checkpoints };
    // Dropping the work kills its trainer and closes its streams, which the other ranks notice at once.
    let result = tokio::select! {
        biased;
        () = ended.cancelled() => None,
        () = context.stop.cancelled() => Some(Err(owner_returned())),
        result = work.run(membership, again) => Some(result),
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

struct Work<'a> {
    context: &'a Context,
    assignment: &'a Assignment,
    reporter: &'a Reporter,
    receipts: &'a Receipts,
    checkpoints: &'a Checkpoints,
}

/// What a job's members do together.
enum Part<'a> {
    Training(Box<Training<'a>>),
    Pass(Box<Pass<'a>>),
}

impl Part<'_> {
    async fn run(&mut self, team: &mut Team, membership: &mut Membership) -> Result<(), Trouble> {
        match self {
            Part::Training(training) => training.run(team, membership).await,
            Part::Pass(pass) => pass.run(team, membership).await,
        }
    }

    /// The job's result, and what this worker did for it.
    async fn end(self) -> Result<(Vec<u8>, Totals), LeaseFailure> {
        match self {
            Part::Training(training) => {
                let Training { mut trainer, totals, .. } = *training;
                let model = trainer.export().await?;
                trainer.stop().await;
                Ok((model, totals))
            }
            Part::Pass(pass) => pass.end().await,
        }
    }
}

impl Work<'_> {
    /// Gets ready, works in one team after the other until the job is done, and stores its result; returns the result's hash.
    async fn run(&self, mut membership: Membership, again: bool) -> Result<(Hash, Totals), LeaseFailure> {
        if again {
            return Err(LeaseFailure::new(FailureReason::AgentRestarted, "what it was doing for this lease is gone"));
        }
        let spec = self.spec()?;
        let mut part = self.prepare(&spec).await?;
        let position = loop {
            let assignment = membership.as_member().await;
            let generation = assignment.generation;
            let joined = tokio::select! {
                joined = Team::join(self.context, &assignment) => joined,
                () = membership.changed_since(generation) => continue,
            };
            let trouble = match joined {
                Ok(mut team) => {
                    self.receipts.miss(None);
                    let done = part.run(&mut team, &mut membership).await;
                    let position = team.position;
                    if matches!(done, Ok(()) | Err(Trouble::Changed)) {
                        team.group.leave().await;
                    }
                    match done {
                        Ok(()) => break position,
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Own(failure) => return Err(failure),
                Trouble::Changed => {}
                Trouble::Peer { lease, why, is_late } => self.miss(&mut membership, generation, lease, &why, is_late).await,
            }
        };
        let (result, totals) = part.end().await?;
        let hash = Hash::of(&result);
        if position > 0 {
            self.await_upload(&hash).await;
        }
        upload(self.context, result).await?;
        Ok((hash, totals))
    }

    /// Another member can't be reached: says so, and waits a little for the chain's decision before the members are tried again.
    async fn miss(&self, membership: &mut Membership, generation: u32, lease: Option<LeaseId>, why: &str, is_late: bool) {
        if membership.is_past(generation) {
            return;
        }
        tracing::info!(job = %self.assignment.job, ?lease, "the team broke: {why}");
        if let Some(lease) = lease {
            let rank = self.assignment.members.iter().chain(&membership.now().members).find(|m| m.lease == lease).map(|m| m.rank);
            let who = rank.map_or_else(|| lease.to_string(), |rank| format!("worker {rank}"));
            self.reporter.log(format!("{who} {}: {why}", if is_late { "is too late" } else { "is missing" }));
            self.receipts.miss(Some(lease));
        }
        let hurry = self.context.hurry.ask();
        let pause = if is_late { LATE_PAUSE } else { MISSING_PAUSE };
        tokio::time::timeout(pause, membership.changed_since(generation)).await.ok();
        drop(hurry);
    }

    /// Starts the trainer and fetches what this worker will probably work on; tells the chain that it is ready.
    async fn prepare<'b>(&'b self, spec: &'b JobSpec) -> Result<Part<'b>, LeaseFailure> {
        let Assignment { rank, resources, seed, world, job, lease, .. } = *self.assignment;
        let mut trainer = self.context.trainer.start(&resources)?;
        self.reporter.log("started its trainer");
        let peers = peers_of(&self.assignment.members)
            .map_err(|_| LeaseFailure::new(FailureReason::PeerLost, "the addresses of the other workers can't be used"))?;
        let source = Source { net: self.context.net.clone(), client: self.context.client.clone(), peers, rank };
        let manifest = source.manifest(spec).await?;
        let unusable = |e| LeaseFailure::new(FailureReason::DataUnavailable, e);
        let train_samples = manifest.split(&spec.data.train).map_err(unusable)?.samples;
        let start = Request::Start { spec: spec.to_bytes(), seed, world, train_samples, data: manifest.to_bytes() };
        let mut parameters = trainer.start(start).await?;
        if let Some(model) = &spec.model.parameters {
            parameters = trainer.load_model(source.fetch(model, MAX_MODEL_BYTES, &|_| {}).await?).await?;
        }
        let mut holdings = Holdings::new(source, &manifest, spec).map_err(unusable)?;
        let part = match spec.kind {
            Kind::Train => {
                // Those with which the job begins share it equally; who comes later is told what to take over.
                if self.assignment.checkpoint.is_none() && rank < world {
                    let plan = holdings.sizes.plan(&vec![1; world as usize], &vec![Share::default(); world as usize]);
                    holdings.prepare(&plan[rank as usize], self.reporter).await?;
                }
                Part::Training(Box::new(Training {
                    context: self.context,
                    spec,
                    trainer,
                    schedule: Schedule::new(spec, train_samples, world),
                    train_samples,
                    holdings,
                    reporter: self.reporter,
                    receipts: self.receipts,
                    checkpoints: self.checkpoints,
                    committer: Committer::new(self.context.chain, job, lease, rank, &self.context.key),
                    keeper: self.keeper(spec).await,
                    totals: Totals::default(),
                    at: Place { parameters, ..Place::default() },
                    speed: 0,
                    batches: None,
                    meter: Meter::default(),
                }))
            }
            Kind::Evaluate | Kind::Predict => {
                holdings.without_training();
                let told = (self.reporter, self.receipts, self.checkpoints);
                Part::Pass(Box::new(Pass::new(self.context, spec, trainer, holdings, told)))
            }
        };
        self.receipts.tell(Tally { parameters, ..Tally::default() });
        Ok(part)
    }

    /// Rounds are kept where they may be audited.
    async fn keeper(&self, spec: &JobSpec) -> Keeper {
        let Assignment { job, lease, .. } = *self.assignment;
        let may_be_audited = match self.context.client.job(job).await {
            Ok(Some(job)) => job.audit_permille > 0,
            _ => true,
        };
        let is_local = matches!(spec.training.mode, Mode::Local { .. });
        Keeper::new(self.context.archive.clone(), lease, is_local, may_be_audited)
    }

    fn spec(&self) -> Result<JobSpec, LeaseFailure> {
        let unusable =
            |e: String| LeaseFailure::new(FailureReason::DataUnavailable, format!("the job's spec can't be used: {e}"));
        let bytes = hex::decode(&self.assignment.spec).map_err(|e| unusable(e.to_string()))?;
        JobSpec::from_bytes(&bytes).map_err(|e| unusable(e.to_string()))
    }

    /// The first member stores the result; the others make sure that it is stored, and do it themselves where it doesn't come.
    async fn await_upload(&self, hash: &Hash) {
        let deadline = tokio::time::Instant::now() + UPLOAD_GRACE;
        while tokio::time::Instant::now() < deadline {
            if matches!(self.context.client.has_blob(*hash).await, Ok(true)) {
                return;
            }
            sleep(UPLOAD_PAUSE.0).await;
        }
    }
}

/// Stores a blob at gateways, however long they take to come back; returns its hash.
pub(crate) async fn upload(context: &Context, bytes: Vec<u8>) -> Result<Hash, LeaseFailure> {
    let Context { client, key, chain, .. } = context;
    let bytes = bytes::Bytes::from(bytes);
    let (mut pause, mut refusals) = (UPLOAD_PAUSE.0, 0);
    loop {
        let error = match client.put_blob(key, chain, bytes.clone(), COPIES).await {
            Ok(hash) => {
                tracing::info!(%hash, bytes = bytes.len(), "a result is stored");
                return Ok(hash);
            }
            Err(error) => error,
        };
        refusals += u32::from(!error.retryable());
        if refusals >= UPLOAD_REFUSALS {
            let what = format!("the result can't be stored: {error}");
            return Err(LeaseFailure::new(FailureReason::DataUnavailable, what));
        }
        tracing::warn!("storing a result failed, trying again: {error}");
        sleep(pause).await;
        pause = (pause * 2).min(UPLOAD_PAUSE.1);
    }
}
