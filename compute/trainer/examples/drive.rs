//! Trains a job on one machine without a market: `drive TRAINER SPEC.toml IDX_DIR WORLD [MODEL.safetensors]`. Starts WORLD
//! trainers, averages their updates in rank order, and prints one JSON line an epoch. For checking specs and curves.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{path::Path, time::Instant};

use common::{Dataset, Process, evaluate, round};
use deepmarket_dataset::{DEFAULT_SHARD_SAMPLES, import_idx};
use deepmarket_job::{
    JobSpec, Schedule,
    protocol::{Reply, Request},
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trainer, spec, dir, world, model @ ..] = arguments.as_slice() else {
        panic!("drive TRAINER SPEC.toml IDX_DIR WORLD [MODEL.safetensors]");
    };
    let world: u32 = world.parse().expect("a number of ranks");
    let imported = import_idx(Path::new(dir), "mnist", DEFAULT_SHARD_SAMPLES).expect("IDX files");
    let dataset = Dataset { manifest: imported.manifest, shards: imported.shards };
    let text = std::fs::read_to_string(spec).expect("a spec");
    let mut spec = JobSpec::from_toml(&text, &|_| Some(dataset.manifest.hash())).expect("a valid spec");
    spec.workers.min = spec.workers.min.min(world);
    spec.check_with(&dataset.manifest).expect("a spec that fits");
    let samples = dataset.manifest.split(&spec.data.train).expect("a split").samples;
    let schedule = Schedule::new(&spec, samples, world);

    let ram_mib = spec.workers.ram_mib.to_string();
    let mut ranks: Vec<Process> = (0..world).map(|_| Process::start(Path::new(trainer), &["--ram-mib", &ram_mib])).collect();
    for (rank, process) in ranks.iter_mut().enumerate() {
        process.join(&spec, &dataset, rank as u32, world);
    }
    let (clock, mut loss, mut rounds, mut cpu_ms) = (Instant::now(), 0.0, 0, 0);
    for number in 0..schedule.rounds {
        let result = round(&mut ranks, number);
        loss += result.loss;
        rounds += 1;
        cpu_ms += result.cpu_ms;
        if let Some(epoch) = schedule.epoch_ended_by(number) {
            let (all, right, validation_loss) = evaluate(&mut ranks);
            println!(
                "{{\"world\":{world},\"epoch\":{epoch},\"loss\":{:.4},\"validation_loss\":{validation_loss:.4},\"accuracy\":{:.4},\
                 \"wall_s\":{:.1},\"cpu_s\":{:.1},\"peak_ram_mib\":{}}}",
                loss / f64::from(rounds),
                right as f64 / all as f64,
                clock.elapsed().as_secs_f64(),
                cpu_ms as f64 / 1000.0,
                result.peak_ram_mib,
            );
            (loss, rounds) = (0.0, 0);
        }
    }
    if let [path] = model {
        match ranks[0].ask(&Request::Export) {
            Reply::Model { safetensors } => std::fs::write(path, safetensors).expect("the model is written"),
            other => panic!("{other:?}"),
        }
    }
    for rank in &mut ranks {
        rank.ask(&Request::Stop);
    }
}
