//! An agent that is lent hostile jobs: data that nobody has, that is endless, that isn't what its manifest says, that is no data;
//! specs and models that lie. Each such lease ends with a reason, and the agent's other leases go on to their ends.
//!
//! Real: the agent, its network, receipts, pipes, and the trainer's code in child processes (the program starts itself again).
//! A stand-in: the gateway, which gives leases and takes receipts.

mod gateway;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_job::{DatasetManifest, Features, Shard, Split, Targets};
use deepmarket_types::{FailureReason, Hash, LeaseOutcome, SecretKey};
use deepmarket_worker::{Means, TrainerProgram, WorkerConfig, run};
use gateway::{Gateway, chain};
use tokio_util::sync::CancellationToken;

const NAME: &str = "hostile_leases_end_with_their_reasons_while_the_others_of_the_same_agent_go_on_to_their_ends";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("trainer") {
        let served = deepmarket_trainer::serve(&mut io::stdin().lock(), &mut io::stdout().lock());
        return served.expect("the agent closes the pipe in order");
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("{NAME}: test");
    }
    if arguments.iter().find(|argument| !argument.starts_with('-')).is_some_and(|filter| !NAME.contains(filter.as_str())) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(180), scenario()).await.expect("in time") });
    println!("test {NAME} ... ok");
}

async fn scenario() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed([100; 32]);
    let gateway = Gateway::start(&key, &folder.path().join("gateway")).await;
    let home = folder.path().join("machine");
    fs::create_dir_all(&home).unwrap();
    let config = WorkerConfig {
        // The stand-in is a script that starts this program.
        trainer: TrainerProgram { path: trainer_program(&home), means: Means::WatchedOnly },
        home,
        chain: chain(),
        key,
        client: Client::new(vec![gateway.url.clone()]).unwrap(),
        listen: vec![],
        announce: vec![],
    };
    let stop = CancellationToken::new();
    let agent = tokio::spawn(run(config, stop.clone()));

    let good = dataset(&gateway, |_| {});
    let before = gateway.lease(&spec(&good, ""));
    until("the honest job trains", || gateway.receipts(before).iter().any(|receipt| receipt.rounds > 0)).await;

    let hostile = hostile(&gateway);
    until("all hostile leases ended", || hostile.iter().all(|(_, lease, _)| gateway.outcome(*lease).is_some())).await;
    for (name, lease, reason) in &hostile {
        assert_eq!(gateway.outcome(*lease), Some(LeaseOutcome::Failed(*reason)), "{name}: {:?}", gateway.logs(*lease));
    }

    // The agent lives: what was begun before is finished, and so is what comes after.
    let after = gateway.lease(&spec(&good, ""));
    for lease in [before, after] {
        until("an honest job is over", || gateway.outcome(lease).is_some()).await;
        let last = *gateway.receipts(lease).last().unwrap();
        assert!(matches!(last.outcome, LeaseOutcome::Finished(_)), "{last:?}: {:?}", gateway.logs(lease));
        assert_eq!((last.rounds, last.samples), (ROUNDS, 4 * EPOCHS), "all of its work");
    }
    assert_eq!(gateway.results(), 1, "both honest jobs gave the same model");
    assert!(!agent.is_finished());
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), agent).await.unwrap().unwrap().unwrap();
}

/// Hostile jobs on this agent, each with the reason with which it has to end.
fn hostile(gateway: &Gateway) -> Vec<(&'static str, usize, FailureReason)> {
    use FailureReason::{DataUnavailable, Diverged};
    let lease = |manifest: &Hash, model: &str| gateway.lease(&spec(manifest, model));
    let other_shape = dataset(gateway, |manifest| manifest.shape = vec![1]);
    let endless = dataset(gateway, |manifest| manifest.splits[0].shards[0] = stored(gateway, &vec![7; 9 << 20], 200, 4));
    let other_length = dataset(gateway, |manifest| {
        let short = stored(gateway, &[7; 150], 400, 4);
        manifest.splits[0].shards[0] = short;
    });
    let no_tensors = dataset(gateway, |manifest| manifest.splits[0].shards[0] = stored(gateway, &[255; 400], 400, 4));
    let many = values_shard(&[0.5; 80]);
    let more_samples = dataset(gateway, |manifest| {
        manifest.splits[0].shards[0] = stored(gateway, &many, many.len() as u64, 4);
    });
    let infinite = values_shard(&[1.0, f32::INFINITY, 2.0, 3.0, 4.0, 5.0, 6.0, f32::NAN]);
    let not_finite = dataset(gateway, |manifest| {
        manifest.splits[0].shards[0] = stored(gateway, &infinite, infinite.len() as u64, 4);
    });
    let lost = dataset(gateway, |manifest| manifest.splits[0].shards[0].hash = Hash::of(b"nobody has this"));
    let good = dataset(gateway, |_| {});
    let no_model = gateway.put(&[9; 300]);
    let no_manifest = gateway.put(b"{\"name\":\"../../etc/passwd\"}");
    vec![
        ("a spec of random bytes", gateway.lease(&[1, 255, 255, 255, 255]), DataUnavailable),
        ("a spec with more behind it", gateway.lease(&[spec(&good, ""), vec![0]].concat()), DataUnavailable),
        ("a manifest that nobody has", lease(&Hash::of(b"nothing"), ""), DataUnavailable),
        ("a manifest that is none", lease(&no_manifest, ""), DataUnavailable),
        ("a manifest of another shape", lease(&other_shape, ""), DataUnavailable),
        ("a shard that nobody has", lease(&lost, ""), DataUnavailable),
        ("a shard that goes on and on", lease(&endless, ""), DataUnavailable),
        ("a shard that is shorter than it says", lease(&other_length, ""), DataUnavailable),
        ("a shard of no tensors", lease(&no_tensors, ""), DataUnavailable),
        ("a shard of more samples than it says", lease(&more_samples, ""), DataUnavailable),
        ("a shard of numbers that are none", lease(&not_finite, ""), Diverged),
        ("a model to start from that is none", lease(&good, &format!("parameters = \"{no_model}\"")), DataUnavailable),
    ]
}

/// Epochs of two rounds.
const EPOCHS: u64 = 60;
const ROUNDS: u64 = 2 * EPOCHS;

/// A job's bytes.
fn spec(manifest: &Hash, model: &str) -> Vec<u8> {
    let text = format!(
        "name = \"job\"\n[workers]\nram_mib = 512\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"{manifest}\"\n[model]\n\
         input = [2]\nlayers = [{{ linear = {{ out = 2 }} }}]\n{model}\n[training]\nloss = \"cross_entropy\"\n\
         optimizer = {{ sgd = {{ lr = 1e-2 }} }}\nbatch = 2\nepochs = {EPOCHS}\n"
    );
    deepmarket_job::JobSpec::from_toml(&text, &|_| None).expect("a valid spec").to_bytes()
}

/// A dataset of four samples to train on and four to evaluate on, with a change.
fn dataset(gateway: &Gateway, change: impl FnOnce(&mut DatasetManifest)) -> Hash {
    let shard = values_shard(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]);
    let listed = stored(gateway, &shard, shard.len() as u64, 4);
    let split = |name: &str| Split { name: name.into(), samples: 4, shards: vec![listed] };
    let mut manifest = DatasetManifest {
        name: "values".into(),
        shape: vec![2],
        x: Features::F32,
        y: Targets::Class { classes: 2 },
        splits: vec![split("train"), split("test")],
    };
    change(&mut manifest);
    manifest.check().expect("what is hostile passes for a manifest");
    gateway.put(&manifest.to_bytes())
}

/// A blob as a manifest lists it, which needn't be true.
fn stored(gateway: &Gateway, blob: &[u8], bytes: u64, samples: u64) -> Shard {
    Shard { hash: gateway.put(blob), bytes, samples }
}

/// A shard of samples of two values, of alternating classes.
fn values_shard(values: &[f32]) -> Vec<u8> {
    let (samples, x_bytes) = (values.len() / 2, values.len() * 4);
    let end = x_bytes + samples;
    let mut header = format!(
        r#"{{"x":{{"dtype":"F32","shape":[{samples},2],"data_offsets":[0,{x_bytes}]}},"y":{{"dtype":"U8","shape":[{samples}],"data_offsets":[{x_bytes},{end}]}}}}"#
    );
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut shard = (header.len() as u64).to_le_bytes().to_vec();
    shard.extend(header.as_bytes());
    shard.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    shard.extend((0..samples).map(|sample| (sample % 2) as u8));
    shard
}

/// A script that starts this very program as the trainer.
fn trainer_program(home: &Path) -> PathBuf {
    let path = home.join("trainer");
    let this = std::env::current_exe().unwrap();
    fs::write(&path, format!("#!/bin/sh\nexec '{}' trainer\n", this.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits for a condition, at most two minutes.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
