//! The stand-in trainer: speaks the real protocol and computes something cheap and deterministic. The job's name says how it
//! misbehaves.

use std::{io, path::Path, process, thread::sleep, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_job::{
    JobSpec,
    protocol::{Reply, Request, bytes_to_floats, floats_to_bytes, read_frame, write_frame},
};
use deepmarket_types::{FailureReason, Hash, steps_root};

/// 3 epochs of 10 rounds: 60 samples in batches of 6.
pub const ROUNDS: u64 = 30;
/// The round at which what goes wrong goes wrong.
const FATAL_ROUND: u64 = 12;

pub fn serve(folder: &Path) {
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    let mut state = StandIn { values: vec![0.5_f32; 50], round: 0, trained: 0 };
    let (mut name, mut share, mut applied) = (String::new(), (Vec::new(), Vec::new()), 0);
    let number: u32 = folder.file_name().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
    while let Ok(Some(request)) = read_frame::<Request>(&mut from) {
        let reply = match request {
            Request::Start { spec, .. } => {
                name = JobSpec::from_bytes(&spec).unwrap().name;
                Reply::Started { floats: 50, parameters: hash(&state.values) }
            }
            Request::Shard { .. } => Reply::Loaded { samples: 12 },
            Request::Assign { train, validate } => {
                share = (train, validate);
                Reply::Assigned { train_samples: 12 * share.0.len() as u64, validate_samples: 10 * share.1.len() as u64 }
            }
            Request::Round { round } => {
                assert_eq!(round, state.round, "rounds come in order");
                misbehave(&name, number, applied);
                // As the schedule says: 12 samples a shard in 10 rounds, and each shard's own phase.
                let position = |shard: u32, k: u64| (12 * k + 10 * u64::from(shard) / 5) / 10;
                let k = round % 10;
                let samples = share.0.iter().map(|shard| position(*shard, k + 1) - position(*shard, k)).sum();
                let update: Vec<f32> = state.values.iter().map(|v| v * 0.9 + 0.01 * (samples + 1) as f32).collect();
                let values = floats_to_bytes(&update);
                let shards: Vec<u8> = share.0.iter().flat_map(|shard| shard.to_le_bytes()).collect();
                let inputs = Hash::tagged("inputs", &[&round.to_le_bytes(), &shards, &hash(&state.values).0]);
                let output = Hash::tagged("deepmarket/v1/update", &[&values]);
                let (loss_sum, steps) = (1.5_f64.to_bits(), steps_root(&[output]));
                Reply::Update { values, samples, loss_sum, cpu_ms: 1, inputs, steps, output, peak_ram_mib: 3 }
            }
            Request::Apply { values: average } => {
                state.values = bytes_to_floats(&average).unwrap();
                if name == "disagree" && number == 2 && state.round == FATAL_ROUND {
                    state.values[7] += 1.0;
                }
                (state.round, applied) = (state.round + 1, applied + 1);
                Reply::Applied { parameters: hash(&state.values) }
            }
            Request::Save { trained } => {
                state.trained = trained;
                let saved = borsh::to_vec(&state).unwrap();
                Reply::Saved { state: saved, parameters: hash(&state.values), round: state.round }
            }
            Request::Restore { state: saved } => match borsh::from_slice(&saved) {
                Ok(saved) => {
                    state = saved;
                    Reply::Restored { parameters: hash(&state.values), round: state.round, trained: state.trained }
                }
                Err(e) => Reply::Failed { reason: FailureReason::DataUnavailable, message: e.to_string() },
            },
            Request::Evaluate => {
                let samples = 10 * share.1.len() as u64;
                Reply::Evaluated { samples, correct: Some(samples / 2), loss_sum: 2.0_f64.to_bits() }
            }
            Request::Predict { index } => {
                assert!(share.1.contains(&index));
                let outputs = floats_to_bytes(&[index as f32; 20]);
                Reply::Predicted { outputs, shape: vec![2], samples: 10, correct: Some(5), loss_sum: 2.0_f64.to_bits() }
            }
            Request::LoadModel { safetensors } => {
                state.values = bytes_to_floats(&safetensors).unwrap();
                Reply::Restored { parameters: hash(&state.values), round: 0, trained: 0 }
            }
            Request::Export => Reply::Model { safetensors: floats_to_bytes(&state.values) },
            Request::Stop => Reply::Bye,
            other => panic!("{other:?}"),
        };
        let bye = reply == Reply::Bye;
        write_frame(&mut to, &reply).unwrap();
        if bye {
            return;
        }
    }
}

/// What a stand-in's state holds.
#[derive(BorshSerialize, BorshDeserialize)]
struct StandIn {
    values: Vec<f32>,
    round: u64,
    trained: u64,
}

fn hash(values: &[f32]) -> Hash {
    Hash::of(&floats_to_bytes(values))
}

fn misbehave(name: &str, machine: u32, applied: u64) {
    sleep(Duration::from_millis(match name {
        "slow" => 250,
        "steady" | "predict" | "long" => 100,
        _ => 20,
    }));
    if name == "long" && machine == 0 && applied == FATAL_ROUND {
        sleep(Duration::from_secs(7));
    }
    if machine == 1 && applied == FATAL_ROUND {
        match name {
            "crash" => {
                eprintln!("a stand-in's last words");
                process::exit(3);
            }
            "oom" => process::exit(deepmarket_job::protocol::EXIT_OUT_OF_MEMORY),
            _ => {}
        }
    }
}
