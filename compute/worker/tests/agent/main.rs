//! Agents against a stand-in market, in one process.
//!
//! Real: the agents, their network, receipts, signatures, pipes and child processes. Stand-ins: the gateway (so that a test
//! can make it lag, die or end a lease at the moment it wants, without four validators) and the trainer (so that a test can
//! make it crash, and needs neither burn nor minutes). The whole thing with real parts is tested in `tests/`.
//!
//! This is a test without the usual harness: the program starts itself again as the stand-in trainer.

mod audits;
mod gateway;
mod trainer;

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, Instant},
};

use deepmarket_api::{Client, ProgressKind};
use deepmarket_job::Predictions;
use deepmarket_types::{FailureReason, LeaseOutcome, LeaseState, SecretKey};
use deepmarket_worker::{Means, TrainerProgram, WorkerConfig, run};
use gateway::{Gateway, chain};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

type Scenario = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("stand-in-trainer") {
        return trainer::serve(Path::new(&arguments[1]));
    }
    if arguments.first().map(String::as_str) == Some("lying-trainer") {
        return audits::lie(&arguments[1..]);
    }
    let scenarios: &[Scenario] = &[
        ("three_agents_train_report_and_agree_while_the_gateway_goes_away", || Box::pin(finishes("steady", true))),
        ("a_gateway_that_lags_behind_stops_nothing", || Box::pin(lags())),
        ("when_a_trainer_crashes_the_others_go_on", || Box::pin(goes_on("crash", FailureReason::TrainerCrashed, 1))),
        ("a_trainer_out_of_memory_is_told_as_that", || Box::pin(goes_on("oom", FailureReason::OutOfMemory, 1))),
        ("one_that_holds_other_parameters_leaves", || Box::pin(goes_on("disagree", FailureReason::Disagreement, 2))),
        ("a_machine_that_falls_silent_is_left_behind", || Box::pin(falls_silent())),
        ("one_that_comes_later_takes_its_share", || Box::pin(grows("steady", 2))),
        ("who_comes_during_a_long_round_waits_for_its_end", || Box::pin(grows("long", 11))),
        ("when_all_are_lost_new_ones_go_on_from_the_checkpoint", || Box::pin(all_are_lost())),
        ("predictions_of_all_shards_are_stored", || Box::pin(predicts())),
        ("a_job_that_was_cancelled_ends_its_trainers_promptly", || Box::pin(cancelled())),
        ("an_owner_who_comes_back_gets_the_machine_and_the_chain_is_told", || Box::pin(owner_returns())),
        ("an_agent_that_was_restarted_gives_its_lease_back", || Box::pin(restarted())),
        ("a_job_that_is_stopped_leaves_its_last_checkpoint", || Box::pin(keeps_a_checkpoint())),
        ("data_that_nobody_has_fails_the_lease_with_that_reason", || Box::pin(no_data())),
        ("any_round_is_opened_when_it_is_drawn_and_another_agent_finds_it_right", || Box::pin(audits::pass())),
        ("with_the_real_trainer_another_machine_gets_the_very_answer", || Box::pin(audits::real_passes("real"))),
        ("in_async_too", || Box::pin(audits::real_passes("real-async"))),
        ("in_local_too", || Box::pin(audits::real_passes("real-local"))),
        ("an_auditor_that_was_restarted_shows_the_answer_that_it_gave", || Box::pin(audits::restarted())),
        ("inputs_or_leaves_that_lie_are_found", || Box::pin(audits::lies())),
        ("for_an_auditor_of_another_class_the_update_is_shown", || Box::pin(audits::another_class())),
        ("a_trainer_that_works_on_fewer_samples_than_it_tells_is_found", || Box::pin(audits::a_liar_is_found())),
        ("a_disputed_step_is_shown_by_both_sides_and_judged", || Box::pin(audits::disputed())),
        ("an_owner_who_comes_back_is_still_paid_for_what_is_drawn_at_once", || Box::pin(audits::owner_returns())),
    ];
    // It takes minutes, and only says what it measured.
    let measurements: &[Scenario] = &[("measure_what_keeping_rounds_costs", || Box::pin(audits::cost()))];
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        return scenarios.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    let wanted = |(name, _): &&Scenario| filter.is_none_or(|filter| name.contains(filter.as_str()));
    let measured = measurements.iter().filter(|(name, _)| filter.is_some_and(|filter| filter == name));
    for (name, scenario) in scenarios.iter().filter(wanted).chain(measured) {
        let began = Instant::now();
        print!("test {name} ... ");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let within = Duration::from_secs(if name.starts_with("measure_") { 900 } else { 120 });
        runtime.block_on(async { tokio::time::timeout(within, scenario()).await.expect("in time") });
        println!("ok ({:.1} s)", began.elapsed().as_secs_f32());
    }
}

/// A market of three machines.
struct Market {
    gateway: Gateway,
    agents: Vec<Agent>,
    folder: TempDir,
    /// The trainer's program for a machine's home.
    program: Box<dyn Fn(&Path) -> PathBuf>,
}

struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), deepmarket_worker::WorkerError>>,
}

fn machine_key(number: u8) -> SecretKey {
    SecretKey::from_seed([100 + number; 32])
}

impl Market {
    async fn start() -> Market {
        Self::start_with(Box::new(trainer_program)).await
    }

    async fn start_with(program: Box<dyn Fn(&Path) -> PathBuf>) -> Market {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<SecretKey> = (0..3).map(machine_key).collect();
        let gateway = Gateway::start(&keys, &folder.path().join("gateway")).await;
        let mut market = Market { gateway, agents: Vec::new(), folder, program };
        for number in 0..3 {
            let agent = market.agent(number);
            market.agents.push(agent);
        }
        market.until("all machines told their addresses", |market| market.gateway.state().addresses.len() == 3).await;
        market
    }

    fn agent(&self, number: u8) -> Agent {
        let home = self.folder.path().join(format!("machine-{number}"));
        fs::create_dir_all(&home).unwrap();
        let config = WorkerConfig {
            // The stand-ins are scripts that start other programs.
            trainer: TrainerProgram { path: (self.program)(&home), means: Means::WatchedOnly },
            home,
            chain: chain(),
            key: machine_key(number),
            client: Client::new(vec![self.gateway.url.clone()]).unwrap(),
            listen: vec![],
            announce: vec![],
        };
        let stop = CancellationToken::new();
        Agent { task: tokio::spawn(run(config, stop.clone())), stop }
    }

    /// Waits for a condition, at most a minute.
    async fn until(&self, what: &str, holds: impl Fn(&Market) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "never came: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn trainers(&self) -> Vec<u32> {
        let pids = (0..3).filter_map(|n| fs::read_to_string(self.folder.path().join(format!("machine-{n}/pid"))).ok());
        pids.filter_map(|pid| pid.trim().parse().ok()).filter(|pid| is_alive(*pid)).collect()
    }

    async fn end(self) {
        for agent in &self.agents {
            agent.stop.cancel();
        }
        for agent in self.agents {
            tokio::time::timeout(Duration::from_secs(20), agent.task).await.unwrap().unwrap().unwrap();
        }
        // The stand-in checks what reaches it: had it panicked, its lock would be poisoned.
        drop(self.gateway.state());
    }
}

/// A zombie is not alive: it runs no more.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// A script that starts this very program as the stand-in trainer.
fn trainer_program(home: &Path) -> PathBuf {
    script(home, &["stand-in-trainer", home.to_str().unwrap()])
}

/// A script that starts this very program with some arguments before its own.
fn script(home: &Path, arguments: &[&str]) -> PathBuf {
    let path = home.join("trainer");
    let this = std::env::current_exe().unwrap();
    let arguments: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    fs::write(&path, format!("#!/bin/sh\nexec '{}' {} \"$@\"\n", this.display(), arguments.join(" "))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn finishes(name: &str, outage: bool) {
    let market = Market::start().await;
    market.gateway.submit_job(name, 3);
    if outage {
        market.until("a receipt of each rank", |m| m.gateway.state().receipts_of_each_rank(1)).await;
        market.gateway.state().down = true;
        tokio::time::sleep(Duration::from_secs(2)).await;
        market.gateway.state().down = false;
    }
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    // The last progress may still be on its way.
    market.until("three farewells", |m| m.gateway.state().progress_of(|k| matches!(k, ProgressKind::Done { .. })) == 3).await;
    each_sample_counts_once_an_epoch(&market);
    {
        let state = market.gateway.state();
        assert!(state.leases.iter().all(|lease| lease.state == LeaseState::Finished), "{:?}", state.leases);
        let finals: Vec<_> = state.receipts.iter().filter(|r| r.outcome != LeaseOutcome::Running).collect();
        assert_eq!(finals.len(), 3);
        assert!(finals.iter().all(|r| r.outcome == finals[0].outcome && r.parameters == finals[0].parameters));
        let LeaseOutcome::Finished(model) = finals[0].outcome else { panic!("{:?}", finals[0].outcome) };
        assert!(state.blobs.contains_key(&model), "the model is stored");
        assert!(finals.iter().all(|r| r.rounds == trainer::ROUNDS && r.samples > 0 && r.cpu_ms > 0));
        // Each rank's own salt: no two roots are equal, though the stand-in's rounds are.
        assert!(finals[0].commitments != finals[1].commitments && finals[1].commitments != finals[2].commitments);
        for rank in 0..3 {
            let of_rank: Vec<_> = state.receipts.iter().filter(|r| r.rank == rank).collect();
            assert!(of_rank.windows(2).all(|pair| pair[0].sequence < pair[1].sequence && pair[0].rounds <= pair[1].rounds));
        }
        let epochs: Vec<_> = state
            .progress
            .iter()
            .filter_map(|p| match p.kind {
                ProgressKind::Epoch { epoch, epochs: 3, correct, samples, .. } => Some((p.rank, epoch, correct, samples)),
                _ => None,
            })
            .collect();
        assert_eq!(epochs, [0, 1, 2].map(|epoch| (0, epoch, Some(20), 40)), "rank 0 tells of the whole split");
    }
    assert!(market.trainers().is_empty());
    market.end().await;
}

async fn lags() {
    let market = Market::start().await;
    market.gateway.submit_job("slow", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(1)).await;
    market.gateway.state().lags = true;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(market.trainers().len(), 3, "a gateway that knows nothing is no reason to stop");
    market.gateway.state().lags = false;
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    assert!(market.gateway.state().leases.iter().all(|lease| lease.state == LeaseState::Finished));
    market.end().await;
}

/// By the job's ledger of batches: a later entry replaces what an earlier one said of the same rounds.
fn each_sample_counts_once_an_epoch(market: &Market) {
    let state = market.gateway.state();
    let mut entries: Vec<(u64, u64, u64, u64)> = Vec::new();
    for entry in &state.progress {
        if let ProgressKind::Trained { from, to, epoch, samples, .. } = entry.kind {
            entries.retain(|(begin, ..)| *begin < from);
            entries.push((from, to, epoch, samples));
        }
    }
    assert!(entries.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gaps and no overlaps: {entries:?}");
    assert_eq!((entries[0].0, entries.last().unwrap().1), (0, trainer::ROUNDS), "{entries:?}");
    for epoch in 0..3 {
        let samples: u64 = entries.iter().filter(|entry| entry.2 == epoch).map(|entry| entry.3).sum();
        assert_eq!(samples, 60, "epoch {epoch}: {entries:?}");
    }
    let trained = |kind: &ProgressKind| matches!(kind, ProgressKind::Epoch { trained: 60, .. });
    assert_eq!(state.progress_of(trained), 3);
}

async fn goes_on(name: &str, reason: FailureReason, blamed: u32) {
    let market = Market::start().await;
    market.gateway.submit_job(name, 3);
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    {
        let state = market.gateway.state();
        for lease in &state.leases {
            let expected = if lease.rank == blamed { LeaseState::Failed(reason) } else { LeaseState::Finished };
            assert_eq!(lease.state, expected, "worker {}", lease.rank);
        }
    }
    each_sample_counts_once_an_epoch(&market);
    market.end().await;
}

/// Its agent is gone without a word, as after a power cut, and so are its streams.
async fn falls_silent() {
    let mut market = Market::start().await;
    market.gateway.submit_job("steady", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(1)).await;
    let agent = market.agents.remove(2);
    agent.task.abort();
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    {
        let state = market.gateway.state();
        assert_eq!(state.leases[2].state, LeaseState::Lost, "both others named it");
        assert!(state.leases[..2].iter().all(|lease| lease.state == LeaseState::Finished));
    }
    each_sample_counts_once_an_epoch(&market);
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    market.end().await;
}

async fn grows(name: &str, rounds: u64) {
    let market = Market::start().await;
    market.gateway.submit_job(name, 1);
    market.until("training began", |m| m.gateway.state().receipts.iter().any(|r| r.rounds > rounds)).await;
    market.gateway.state().lease(1);
    market.gateway.state().lease(2);
    market.until("all are members", |m| m.gateway.state().members() == 3).await;
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    {
        let state = market.gateway.state();
        assert!(state.leases.iter().all(|lease| lease.state == LeaseState::Finished), "{:?}", state.leases);
        for rank in 1..3 {
            let last = state.receipts.iter().rfind(|r| r.rank == rank).unwrap();
            assert!(last.from > rounds && last.rounds == trainer::ROUNDS && last.samples > 0, "{last:?}");
        }
    }
    each_sample_counts_once_an_epoch(&market);
    market.end().await;
}

async fn all_are_lost() {
    let mut market = Market::start().await;
    market.gateway.submit_job("steady", 3);
    market.until("a checkpoint is told", |m| !m.gateway.state().checkpoints().is_empty()).await;
    for agent in market.agents.drain(..) {
        agent.task.abort();
    }
    {
        let mut state = market.gateway.state();
        (0..3).for_each(|index| state.leave(index, LeaseState::Lost));
    }
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    for number in 0..3 {
        let agent = market.agent(number);
        market.agents.push(agent);
    }
    (0..2).for_each(|machine| market.gateway.state().lease(machine));
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    {
        let state = market.gateway.state();
        let first = state.receipts.iter().find(|r| r.rank == 3 && r.rounds > r.from).unwrap();
        assert!(state.checkpoints().iter().any(|checkpoint| checkpoint.rounds == first.from), "{first:?}");
        assert!(state.leases[3..].iter().all(|lease| lease.state == LeaseState::Finished));
    }
    each_sample_counts_once_an_epoch(&market);
    market.end().await;
}

async fn predicts() {
    let market = Market::start().await;
    market.gateway.submit_job("predict", 3);
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    {
        let state = market.gateway.state();
        let Some(LeaseOutcome::Finished(result)) = state.receipts.last().map(|r| r.outcome) else { panic!() };
        let result = Predictions::from_bytes(&state.blobs[&result]).unwrap();
        assert_eq!((result.samples, &result.shape[..], result.shards.len()), (40, &[2][..], 4));
        assert!((0..).zip(&result.shards).all(|(index, shard)| shard.index == index && state.blobs.contains_key(&shard.blob)));
        let told = |k: &ProgressKind| matches!(k, ProgressKind::Epoch { correct: Some(20), samples: 40, .. });
        assert_eq!(state.progress_of(told), 1);
    }
    market.end().await;
}

async fn cancelled() {
    let market = Market::start().await;
    market.gateway.submit_job("slow", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(1) && m.trainers().len() == 3).await;
    market.gateway.state().close();
    let began = Instant::now();
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    market.end().await;
}

async fn owner_returns() {
    let mut market = Market::start().await;
    market.gateway.submit_job("slow", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(1)).await;
    let agent = market.agents.remove(1);
    agent.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), agent.task).await.unwrap().unwrap().unwrap();
    let told = market.gateway.state().receipts.iter().any(|r| r.outcome == LeaseOutcome::Failed(FailureReason::OwnerReturned));
    assert!(told, "before the agent ended");
    market.until("the others finish", |m| m.gateway.state().closed()).await;
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    market.end().await;
}

async fn restarted() {
    let mut market = Market::start().await;
    market.gateway.submit_job("slow", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(2)).await;
    market.until("a checkpoint", |m| m.gateway.state().checkpoints().last().is_some()).await;
    // Killed without a word: its tasks are dropped where they are.
    let agent = market.agents.remove(0);
    agent.task.abort();
    let lost = market.gateway.state().receipts.iter().filter(|r| r.rank == 0).map(|r| r.sequence).max().unwrap();
    market.agents.insert(0, market.agent(0));
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    let last = *market.gateway.state().receipts.last().unwrap();
    assert_ne!(last.rank, 0);
    {
        let state = market.gateway.state();
        let given_back = state.receipts.iter().rfind(|r| r.rank == 0).unwrap();
        assert_eq!(given_back.outcome, LeaseOutcome::Failed(FailureReason::AgentRestarted));
        assert!(given_back.sequence > lost, "no number is used twice");
        assert!(given_back.checkpoint.is_some(), "what was stored stays named");
    }
    each_sample_counts_once_an_epoch(&market);
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    market.end().await;
}

/// The gateways have no room for the first checkpoints; then they do, and the job is stopped as one whose budget is used up.
async fn keeps_a_checkpoint() {
    let market = Market::start().await;
    market.gateway.state().full = true;
    market.gateway.submit_job("steady", 3);
    market.until("a checkpoint was refused", |m| m.gateway.state().refused > 0).await;
    {
        let mut state = market.gateway.state();
        assert!(state.checkpoints().is_empty() && !state.closed(), "{:?}", state.receipts);
        state.full = false;
    }
    market.until("a second checkpoint is told", |m| m.gateway.state().checkpoints().len() > 1).await;
    market.gateway.state().close();
    market.until("no trainer is left", |m| m.trainers().is_empty()).await;
    {
        let state = market.gateway.state();
        assert!(
            state.checkpoints().iter().all(|checkpoint| state.blobs.contains_key(&checkpoint.state)),
            "what receipts name is stored"
        );
        let named = |rank| state.receipts.iter().filter(move |r| r.rank == rank).map(|r| r.checkpoint);
        let first = named(0).position(|checkpoint| checkpoint.is_some()).unwrap();
        assert!(named(0).skip(first).all(|checkpoint| checkpoint.is_some()), "all receipts from then on name one");
        assert!((1..3).flat_map(named).all(|checkpoint| checkpoint.is_none()), "rank 0 stores it for all");
    }
    market.end().await;
}

async fn no_data() {
    let market = Market::start().await;
    market.gateway.lose_data();
    market.gateway.submit_job("steady", 3);
    market.until("the job is closed", |m| m.gateway.state().closed()).await;
    let outcome = market.gateway.state().receipts.last().unwrap().outcome;
    assert_eq!(outcome, LeaseOutcome::Failed(FailureReason::DataUnavailable));
    market.end().await;
}
