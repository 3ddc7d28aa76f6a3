//! The stand-in trainer: speaks the real protocol and computes something cheap and deterministic. The job's name says how it
//! misbehaves.

use std::{fs, io, path::Path, process, thread::sleep, time::Duration};

use deepmarket_job::{
    JobSpec,
    protocol::{Reply, Request, bytes_to_floats, floats_to_bytes, read_frame, write_frame},
};
use deepmarket_types::Hash;

/// 3 epochs of 10 rounds: 60 samples in batches of 6.
pub const ROUNDS: u64 = 30;
/// The round at which what goes wrong goes wrong.
const FATAL_ROUND: u64 = 12;

pub fn serve(folder: &Path) {
    fs::write(folder.join("pid"), process::id().to_string()).unwrap();
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    let (mut values, mut rank, mut name, mut validate) = (vec![0.5_f32; 50], 0, String::new(), 0);
    while let Ok(Some(request)) = read_frame::<Request>(&mut from) {
        let reply = match request {
            Request::Start { spec, rank: own, .. } => {
                name = JobSpec::from_bytes(&spec).unwrap().name;
                rank = own;
                Reply::Started { floats: 50, parameters: hash(&values) }
            }
            Request::Shard { part, .. } => {
                validate += u64::from(part == deepmarket_job::protocol::Part::Validate) * 10;
                Reply::Loaded { samples: validate }
            }
            Request::Round { round } => {
                misbehave(&name, rank, round);
                let update: Vec<f32> = values.iter().map(|v| v * 0.9 + 0.01 * (rank + 1) as f32).collect();
                let values = floats_to_bytes(&update);
                let (loss_sum, commitment) = (1.5_f64.to_bits(), Hash::of(&values));
                Reply::Update {
                    values,
                    samples: 1 + (round + u64::from(rank)) % 3,
                    loss_sum,
                    cpu_ms: 1,
                    commitment,
                    peak_ram_mib: 3,
                }
            }
            Request::Apply { values: average } => {
                values = bytes_to_floats(&average).unwrap();
                if name == "disagree" && rank == 2 {
                    values[7] += 1.0;
                }
                Reply::Applied { parameters: hash(&values) }
            }
            Request::Evaluate => Reply::Evaluated { samples: validate, correct: Some(validate / 2), loss_sum: 2.0_f64.to_bits() },
            Request::Export => Reply::Model { safetensors: floats_to_bytes(&values) },
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

fn hash(values: &[f32]) -> Hash {
    Hash::of(&floats_to_bytes(values))
}

fn misbehave(name: &str, rank: u32, round: u64) {
    sleep(Duration::from_millis(match name {
        "slow" => 250,
        "steady" => 100,
        _ => 20,
    }));
    if rank == 1 && round == FATAL_ROUND {
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
