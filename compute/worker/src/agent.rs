//! The agent's life: heartbeats, assignments, one task for each lease.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, time::Duration};

use deepmarket_api::{Assignment, Client, Network};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{ChainId, JobId, LeaseId, LeaseState, MachineId, SecretKey};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    TrainerProgram, WorkerError,
    answers::Answers,
    duties, heartbeat,
    journal::Journal,
    keeper::Archive,
    lease::{Context, Hurry, serve},
};

/// How often the chain is asked for leases, and while a lease waits for its job's members to change.
const POLL_EVERY: Duration = Duration::from_millis(500);
const POLL_HURRIED: Duration = Duration::from_millis(100);
/// How often the market is looked for at the start.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long leases may take to end when the agent is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(6);

/// How long an agent that gave leases back stays to open what is drawn of their last receipts: two blocks after them, and some more.
const LINGER: Duration = Duration::from_secs(4);

/// How a machine is lent.
#[derive(Clone)]
pub struct WorkerConfig {
    /// The agent's folder: blobs, the last receipts, and what audits may ask for.
    pub home: PathBuf,
    /// The market.
    pub chain: ChainId,
    /// The machine's own key.
    pub key: SecretKey,
    /// The market's gateways.
    pub client: Client,
    /// Where this machine listens for other machines (multiaddresses); empty: a free port on loopback.
    pub listen: Vec<String>,
    /// Where other machines reach it, told to the chain; empty: where it listens.
    pub announce: Vec<String>,
    /// The trainer's program.
    pub trainer: TrainerProgram,
}

/// Serves this machine's leases until `stop` is cancelled; then it gives running leases back (`OwnerReturned`) and returns.
/// No trainer outlives it.
///
/// Audits of what this machine did are served as long as it runs, also where it isn't offered: an owner who takes it back for the
/// night should let it run, or start it again before the chain's deadline. An agent that gave leases back stays for some seconds, as
/// their last receipts may be drawn at once; all that it does then is to read what is drawn from the disk and to send it.
///
/// It fails only where it can't begin: an unusable folder or address. A market that is away is waited for.
pub async fn run(config: WorkerConfig, stop: CancellationToken) -> Result<(), WorkerError> {
    #[cfg(feature = "test-utils")]
    return run_with(config, crate::testing::Cheat::Honest, stop).await;
    #[cfg(not(feature = "test-utils"))]
    run_with(config, stop).await
}

pub(crate) async fn run_with(
    config: WorkerConfig,
    #[cfg(feature = "test-utils")] cheat: crate::testing::Cheat,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let WorkerConfig { home, chain, key, client, listen, announce, trainer } = config;
    fs::create_dir_all(&home).map_err(WorkerError::home(&home))?;
    let journal = Journal::open(home.join("leases"))?;
    let archive = Archive::open(home.join("audits"))?;
    let answers = Answers::open(home.join("answers"))?;
    let net = Net::start(NetConfig { key: key.clone(), listen, blobs: home.join("blobs"), chain }).await?;
    let Some(network) = find_market(&client, &stop).await else { return Ok(()) };
    // More gateways than the one that was named: it may be the one that dies.
    let client = client.discover().await.unwrap_or(client);
    let receipt_ms = network.receipt_ms;
    let hurry = Hurry::default();
    let context = Arc::new(Context {
        chain,
        key,
        client,
        net,
        announce,
        trainer,
        journal,
        archive,
        answers,
        receipt_ms,
        stop,
        hurry,
        #[cfg(feature = "test-utils")]
        cheat,
    });
    let duties = AbortOnDropHandle::new(tokio::spawn(duties::follow(context.clone())));
    let heartbeats = AbortOnDropHandle::new(tokio::spawn(heartbeat::beat(context.clone(), network.heartbeat_ms)));
    let mut leases = Leases { context: context.clone(), served: HashMap::new() };
    tokio::select! {
        () = context.stop.cancelled() => {}
        () = leases.follow() => {}
    }
    drop(heartbeats);
    let gave_back = leases.end().await;
    if gave_back && context.archive.has_written() {
        sleep(LINGER).await;
    }
    drop(duties);
    Ok(())
}

async fn find_market(client: &Client, stop: &CancellationToken) -> Option<Network> {
    let mut told = false;
    loop {
        match client.network().await {
            Ok(network) => return Some(network),
            Err(e) if !told => tracing::warn!("waiting for the market: {e}"),
            Err(_) => {}
        }
        told = true;
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// A lease that this agent serves or served. It doesn't outlive the agent, however that ends.
struct Served {
    job: JobId,
    assignment: watch::Sender<Assignment>,
    ended: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// The leases of one agent. Those that are over stay in the list: a gateway that lags behind may still name them.
struct Leases {
    context: Arc<Context>,
    served: HashMap<LeaseId, Served>,
}

impl Leases {
    async fn follow(&mut self) {
        let machine = MachineId::from_key(&self.context.key.public());
        loop {
            match self.context.client.assignments(machine).await {
                Ok(assignments) => self.compare(assignments).await,
                // The chain may stand still or all gateways be away: running leases go on.
                Err(e) => tracing::debug!("no assignments just now: {e}"),
            }
            let every = if self.context.hurry.is_wanted() { POLL_HURRIED } else { POLL_EVERY };
            tokio::select! {
                () = sleep(every) => {}
                () = self.context.hurry.wanted(), if every > POLL_HURRIED => {}
            }
        }
    }

    /// Begins what is new, ends what is gone, and tells running leases who works with them now.
    async fn compare(&mut self, assignments: Vec<Assignment>) {
        for (lease, served) in &self.served {
            let is_named = assignments.iter().any(|assignment| assignment.lease == *lease);
            if !is_named && !served.task.is_finished() && !served.ended.is_cancelled() && self.is_over(served.job, *lease).await {
                served.ended.cancel();
            }
        }
        for assignment in assignments {
            let (lease, job) = (assignment.lease, assignment.job);
            match self.served.get(&lease) {
                // A gateway that lags behind may tell of an earlier generation.
                Some(served) => {
                    served.assignment.send_if_modified(|known| {
                        let is_news = assignment.generation > known.generation;
                        if is_news {
                            *known = assignment;
                        }
                        is_news
                    });
                }
                None => {
                    let (ended, (sender, news)) = (CancellationToken::new(), watch::channel(assignment));
                    let task = AbortOnDropHandle::new(tokio::spawn(serve(self.context.clone(), news, ended.clone())));
                    self.served.insert(lease, Served { job, assignment: sender, ended, task });
                }
            }
        }
    }

    /// Does the chain say that a lease isn't active any more? That a gateway doesn't name it is not enough: one that was
    /// restarted and is catching up doesn't know it yet.
    async fn is_over(&self, job: JobId, lease: LeaseId) -> bool {
        let Ok(Some(view)) = self.context.client.job(job).await else { return false };
        view.leases.iter().any(|l| l.id == lease && l.state != LeaseState::Active)
    }

    /// Waits for the leases' last words. Were there any?
    async fn end(self) -> bool {
        let any = self.served.values().any(|served| !served.task.is_finished());
        let deadline = tokio::time::Instant::now() + STOP_WITHIN;
        for (lease, mut served) in self.served {
            if tokio::time::timeout_at(deadline, &mut served.task).await.is_err() {
                tracing::warn!(%lease, "the lease didn't end in time");
                served.task.abort();
                // Aborting drops the trainer, which kills it.
                served.task.await.ok();
            }
        }
        any
    }
}
