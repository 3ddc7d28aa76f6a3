use std::time::{Duration, Instant};

use deepmarket_job::{
    Budget, Data, DatasetManifest, Decimal, Features, JobSpec, Kind, Layer, LearningRate, Loss, Mode, Model, Optimizer, Recovery,
    Shard, Split, Targets, Training, Updates, Workers, protocol::Part,
};
use deepmarket_types::{Credits, Hash};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

use crate::{Trainer, cpu_ms, peak_ram_mib};

/// Samples of the benchmark's random dataset.
const SAMPLES: u64 = 2048;
/// Samples of one step.
const BATCH: u32 = 64;
/// Training costs about three forward passes: forward, gradient by weights, gradient by inputs.
const TRAINING_PASSES: u64 = 3;

/// Measures the training speed of one core for about a second, in million multiply-adds a second: three times the forward
/// pass's multiply-adds ([`deepmarket_job::Size::multiply_adds`]) for each sample. The net is the demo's.
pub fn measure(seed: u64) -> u64 {
    let (mut trainer, multiply_adds) = benchmark_trainer(demo_layers(), seed);
    let samples_per_s = samples_per_second(&mut trainer, Duration::from_millis(200), Duration::from_millis(800));
    (samples_per_s * (multiply_adds * TRAINING_PASSES) as f64 / 1e6) as u64
}

/// Seconds per MNIST epoch (60,000 samples) of one trainer on one core for the demo's net and the classic one of 1.2 M
/// parameters, with Adam and batches of 64, on random images; and peak memory. Takes `seconds` for each.
pub fn bench(seconds: u64) -> Value {
    let baseline_mib = peak_ram_mib();
    let mut models = Vec::new();
    for (name, layers) in [("mnist-cnn", demo_layers()), ("basic-mnist", classic_layers())] {
        let (mut trainer, multiply_adds) = benchmark_trainer(layers, 1);
        let cpu_before = cpu_ms();
        let clock = Instant::now();
        let samples_per_s = samples_per_second(&mut trainer, Duration::from_millis(500), Duration::from_secs(seconds));
        let cpu_share = (cpu_ms() - cpu_before) as f64 / clock.elapsed().as_millis() as f64;
        models.push(json!({
            "model": name,
            "parameters": trainer.floats(),
            "seconds_per_epoch": round(60_000.0 / samples_per_s),
            "cpu_seconds_per_epoch": round(60_000.0 / samples_per_s * cpu_share),
            "mega_multiply_adds_per_s": (samples_per_s * (multiply_adds * TRAINING_PASSES) as f64 / 1e6) as u64,
            "peak_ram_mib": peak_ram_mib(),
        }));
    }
    json!({ "batch": BATCH, "threads": 1, "trainer": crate::determinism_class(), "baseline_mib": baseline_mib, "models": models })
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

fn samples_per_second(trainer: &mut Trainer, warm_up: Duration, measured: Duration) -> f64 {
    let mut run = |duration: Duration| {
        let (clock, mut samples) = (Instant::now(), 0);
        while clock.elapsed() < duration {
            let update = trainer.compute_round(trainer.round()).expect("the benchmark's net doesn't diverge");
            samples += update.samples;
            trainer.apply(&update.values).expect("the benchmark's net doesn't diverge");
        }
        samples as f64 / clock.elapsed().as_secs_f64()
    };
    run(warm_up);
    run(measured)
}

fn benchmark_trainer(layers: Vec<Layer>, seed: u64) -> (Trainer, u64) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    let (mut x, mut y) = (vec![0; SAMPLES as usize * 784], vec![0; SAMPLES as usize]);
    rng.fill_bytes(&mut x);
    rng.fill_bytes(&mut y);
    y.iter_mut().for_each(|class| *class %= 10);
    let shard = random_shard(&x, &y);
    let manifest = DatasetManifest {
        name: "benchmark".into(),
        shape: vec![1, 28, 28],
        x: Features::U8 { mean: Decimal::from_nanos(500_000_000), std: Decimal::from_nanos(300_000_000) },
        y: Targets::Class { classes: 10 },
        splits: vec![Split {
            name: "train".into(),
            samples: SAMPLES,
            shards: vec![Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples: SAMPLES }],
        }],
    };
    let spec = benchmark_spec(&manifest, layers);
    let multiply_adds = spec.check().expect("the benchmark's spec is valid").multiply_adds;
    let mut trainer = Trainer::new(spec, manifest, Hash(key), 1, SAMPLES).expect("the benchmark's spec is valid");
    trainer.add_shard(Part::Train, 0, &shard).expect("the benchmark's shard is valid");
    (trainer, multiply_adds)
}

fn random_shard(x: &[u8], y: &[u8]) -> Vec<u8> {
    let header = json!({
        "x": { "dtype": "U8", "shape": [y.len(), 1, 28, 28], "data_offsets": [0, x.len()] },
        "y": { "dtype": "U8", "shape": [y.len()], "data_offsets": [x.len(), x.len() + y.len()] },
    });
    let header = serde_json::to_vec(&header).expect("names and numbers");
    let mut shard = (header.len() as u64).to_le_bytes().to_vec();
    for part in [&header, x, y] {
        shard.extend_from_slice(part);
    }
    shard
}

fn benchmark_spec(manifest: &DatasetManifest, layers: Vec<Layer>) -> JobSpec {
    let decimal = Decimal::from_nanos;
    JobSpec {
        name: "benchmark".into(),
        kind: Kind::Train,
        workers: Workers { min: 1, max: 1, cores: 1, gpus: 0, ram_mib: 4096, disk_mib: 0, share_machine: true },
        budget: Budget { max: Credits::from_credits(1), slots: Vec::new(), audit_percent: 0 },
        data: Data { manifest: manifest.hash(), train: "train".into(), validate: "train".into() },
        model: Model::stack(vec![1, 28, 28], layers),
        training: Training {
            loss: Loss::CrossEntropy,
            optimizer: Optimizer::Adam {
                lr: decimal(100_000),
                beta1: decimal(900_000_000),
                beta2: decimal(999_000_000),
                epsilon: decimal(10),
                weight_decay: Decimal::ZERO,
            },
            schedule: LearningRate::Constant { warmup_steps: 0 },
            batch: BATCH,
            epochs: 10_000,
            seed: 1,
            mode: Mode::Sync,
            updates: Updates::F32,
        },
        recovery: Recovery { checkpoint_rounds: 0, restarts: 0 },
    }
}

/// The demo's net (`examples/mnist.toml`).
fn demo_layers() -> Vec<Layer> {
    let pool = Layer::MaxPool2d { kernel: 2, stride: 2, padding: 0 };
    vec![
        Layer::Conv2d { out: 16, kernel: 3, stride: 1, padding: 1 },
        Layer::Relu,
        pool.clone(),
        Layer::Conv2d { out: 32, kernel: 3, stride: 1, padding: 1 },
        Layer::Relu,
        pool,
        Layer::Flatten,
        Layer::Linear { out: 10 },
    ]
}

/// PyTorch's "basic MNIST" example: 1.2 M parameters.
fn classic_layers() -> Vec<Layer> {
    vec![
        Layer::Conv2d { out: 32, kernel: 3, stride: 1, padding: 0 },
        Layer::Relu,
        Layer::Conv2d { out: 64, kernel: 3, stride: 1, padding: 0 },
        Layer::Relu,
        Layer::MaxPool2d { kernel: 2, stride: 2, padding: 0 },
        Layer::Dropout { rate: Decimal::from_nanos(250_000_000) },
        Layer::Flatten,
        Layer::Linear { out: 128 },
        Layer::Relu,
        Layer::Dropout { rate: Decimal::from_nanos(500_000_000) },
        Layer::Linear { out: 10 },
    ]
}
