//! How far updates of another determinism class are from this one's: `calibrate record IDX_DIR DIR` on one machine writes states and
//! updates, `calibrate compare IDX_DIR DIR` on another computes the updates again. Calibrates the agent's tolerance. With CACHES_DECIDE set, this machine's caches are
//! a class of their own.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use deepmarket_dataset::import_idx;
use deepmarket_job::{
    DatasetManifest, JobSpec,
    protocol::{Part, bytes_to_floats, floats_to_bytes},
};
use deepmarket_trainer::{Trainer, determinism_class};
use deepmarket_types::Hash;

#[path = "../../worker/src/tolerance.rs"]
mod tolerance;

const NETS: [(&str, &str); 3] = [
    (
        "cnn",
        "{ conv2d = { out = 16, kernel = 3, padding = 1 } }, \"relu\", { max_pool2d = { kernel = 2 } }, \
             { conv2d = { out = 32, kernel = 3, padding = 1 } }, \"relu\", { max_pool2d = { kernel = 2 } }, \"flatten\", { linear = { out = 10 } }",
    ),
    (
        "norms",
        "{ conv2d = { out = 8, kernel = 3, padding = 1 } }, { batch_norm = {} }, \"relu\", { max_pool2d = { kernel = 2 } }, \
               { conv2d = { out = 16, kernel = 3, padding = 1 } }, { batch_norm = {} }, \"gelu\", \"flatten\", { dropout = { rate = 0.25 } }, { linear = { out = 10 } }",
    ),
    ("mlp", "\"flatten\", { linear = { out = 128 } }, \"relu\", { linear = { out = 10 } }"),
];

/// Mode, rounds, and how many of them apart are recorded.
const MODES: [(&str, &str, u64, u64); 4] = [
    ("sync", "\"sync\"", 201, 20),
    ("local-8", "{ local = { steps = 8 } }", 21, 5),
    ("local-32", "{ local = { steps = 32 } }", 6, 5),
    ("local-64", "{ local = { steps = 64 } }", 4, 3),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, idx, dir, only @ ..] = arguments.as_slice() else { panic!("calibrate record|compare IDX_DIR DIR [NET-MODE]") };
    if std::env::var_os("CACHES_DECIDE").is_some() {
        // The first product of a process decides how sums are cut; the trainer's would cut them as on every machine.
        let ones = Tensor::<2>::ones([80, 80], &Device::flex());
        drop(ones.clone().matmul(ones).into_data());
    }
    let imported = import_idx(Path::new(idx), "mnist", 10_000).expect("IDX files");
    println!("{}", determinism_class());
    for (net, layers) in NETS {
        for (mode, text, rounds, apart) in MODES {
            if !only.is_empty() && !only.contains(&format!("{net}-{mode}")) {
                continue;
            }
            let mut trainer = trainer(layers, text, &imported.manifest, &imported.shards[0].1);
            let file = |round: u64, kind: &str| -> PathBuf { Path::new(dir).join(format!("{net}-{mode}-{round}.{kind}")) };
            match verb.as_str() {
                "record" => {
                    for round in 0..rounds {
                        let state = trainer.save(0);
                        let update = trainer.compute_round(round).expect("it doesn't diverge");
                        if round % apart == 0 {
                            std::fs::write(file(round, "state"), state).expect("written");
                            std::fs::write(file(round, "update"), floats_to_bytes(&update.values)).expect("written");
                        }
                        trainer.apply(&update.values).expect("it doesn't diverge");
                    }
                }
                _ => {
                    let (mut relative, mut largest) = (Vec::new(), Vec::new());
                    for round in (0..rounds).step_by(apart as usize) {
                        trainer.restore(&std::fs::read(file(round, "state")).expect("recorded")).expect("a state");
                        let own = trainer.compute_round(round).expect("it doesn't diverge").values;
                        let theirs = bytes_to_floats(&std::fs::read(file(round, "update")).expect("recorded")).expect("floats");
                        let distance = tolerance::distance(&theirs, &own).expect("they can be compared");
                        relative.push(distance.relative);
                        largest.push(distance.largest);
                    }
                    relative.sort_by(f64::total_cmp);
                    largest.sort_by(f64::total_cmp);
                    let words = |all: &[f64]| format!("{:.1e} median, {:.1e} most", all[all.len() / 2], all[all.len() - 1]);
                    println!("{net} {mode}: relative {}; largest {}", words(&relative), words(&largest));
                }
            }
        }
    }
}

fn trainer(layers: &str, mode: &str, manifest: &DatasetManifest, shard: &[u8]) -> Trainer {
    let text = format!(
        "name = \"calibration\"\n[workers]\nram_mib = 4096\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"mnist\"\n[model]\ninput = [1, 28, 28]\n\
         layers = [ {layers} ]\n[training]\nloss = \"cross_entropy\"\noptimizer = {{ adam = {{ lr = 0.001 }} }}\nbatch = 64\nepochs = 9\nmode = {mode}\n"
    );
    let spec = JobSpec::from_toml(&text, &|_| Some(manifest.hash())).expect("a valid spec");
    // As if the first shard were the whole split.
    let samples = manifest.split("train").expect("a split").shards[0].samples;
    let mut trainer = Trainer::new(spec, manifest.clone(), Hash::of(b"calibration"), 1, samples).expect("a valid job");
    trainer.add_shard(Part::Train, 0, shard).expect("a shard");
    trainer
}
