//! What is trained in the zoo: jobs small enough that a round takes less than a millisecond, and real all the same.

use std::sync::Arc;

use deepmarket_dataset::shard_bytes;
use deepmarket_job::{DatasetManifest, Decimal, Features, JobSpec, Mode, Shard, Split, Targets};
use deepmarket_types::Hash;

/// Shards of the dataset: enough that each of four workers has two.
pub const SHARDS: u32 = 8;
const SAMPLES_OF_A_SHARD: u64 = 24;
const FEATURES: u32 = 8;

/// A kind of job, and its data.
#[derive(Debug)]
pub struct Task {
    /// What is submitted.
    pub spec: JobSpec,
    /// The dataset.
    pub manifest: DatasetManifest,
    /// Its shards, in order.
    pub shards: Vec<Vec<u8>>,
}

/// How a job trains: the optimizer and the mode, as lines of its spec; the batch, and the most epochs.
const TRAININGS: &[(&str, u32, u32)] = &[
    ("optimizer = { sgd = { lr = 0.05, momentum = 0.9 } }", 16, 4),
    ("optimizer = { adam = { lr = 0.01 } }", 16, 4),
    ("optimizer = { adam = { lr = 0.01 } }\nmode = { local = { steps = 4 } }", 8, 24),
    (
        "optimizer = { sgd = { lr = 0.02 } }\nmode = { local = { steps = 4, outer = { nesterov = { lr = 0.7, momentum = 0.9 } } } }",
        8,
        24,
    ),
];

/// The kinds of jobs: each training alone and in a team, with the dial at the floor, in the middle and at the end.
pub fn tasks() -> Vec<Arc<Task>> {
    let (manifest, shards) = dataset();
    let mut tasks = Vec::new();
    for (number, (training, batch, epochs)) in TRAININGS.iter().enumerate() {
        for (min, max) in [(1, 1), (2, 2), (2, 4)] {
            let audit_percent = [0, 30, 100][(number + max as usize) % 3];
            let text = format!(
                "name = \"zoo\"\nkind = \"train\"\n[workers]\nmin = {min}\nmax = {max}\nram_mib = 256\n\
                 [budget]\nmax_credits = 100\naudit_percent = {audit_percent}\n\
                 [data]\nmanifest = \"zoo\"\ntrain = \"train\"\nvalidate = \"train\"\n\
                 [model]\ninput = [{FEATURES}]\nlayers = [{{ linear = {{ out = 8 }} }}, {{ relu = {{}} }}, {{ linear = {{ out = 2 }} }}]\n\
                 [training]\nloss = \"cross_entropy\"\n{training}\nbatch = {batch}\nepochs = {epochs}\nseed = {number}\n\
                 [recovery]\nrestarts = 100\n"
            );
            let spec = JobSpec::from_toml(&text, &|_| Some(manifest.hash())).expect("the zoo's jobs are sound");
            tasks.push(Arc::new(Task { spec, manifest: manifest.clone(), shards: shards.clone() }));
        }
    }
    tasks
}

/// Two classes: bright in the first half, or in the second one.
fn dataset() -> (DatasetManifest, Vec<Vec<u8>>) {
    let shard = |number: u32| {
        let classes: Vec<u8> = (0..SAMPLES_OF_A_SHARD).map(|sample| ((sample + u64::from(number)) % 2) as u8).collect();
        let pixel = |sample: usize, class: u8, at: u32| {
            let noise = (sample as u32 * 37 + at * 11 + number * 53) % 90;
            if (at < FEATURES / 2) == (class == 0) { 220 - noise as u8 } else { noise as u8 }
        };
        let of_sample = |(sample, class): (usize, &u8)| (0..FEATURES).map(|at| pixel(sample, *class, at)).collect::<Vec<u8>>();
        let pixels: Vec<u8> = classes.iter().enumerate().flat_map(of_sample).collect();
        shard_bytes(&pixels, &classes, &[FEATURES])
    };
    let shards: Vec<Vec<u8>> = (0..SHARDS).map(shard).collect();
    let listed =
        shards.iter().map(|bytes| Shard { hash: Hash::of(bytes), bytes: bytes.len() as u64, samples: SAMPLES_OF_A_SHARD });
    let split = Split { name: "train".into(), samples: SAMPLES_OF_A_SHARD * u64::from(SHARDS), shards: listed.collect() };
    let manifest = DatasetManifest {
        name: "zoo".into(),
        shape: vec![FEATURES],
        x: Features::U8 { mean: Decimal::from_nanos(400_000_000), std: Decimal::from_nanos(300_000_000) },
        y: Targets::Class { classes: 2 },
        splits: vec![split],
    };
    (manifest, shards)
}

impl Task {
    /// Samples of the training split.
    pub fn samples(&self) -> u64 {
        SAMPLES_OF_A_SHARD * u64::from(SHARDS)
    }

    /// Does each worker take several steps of its own in a round?
    pub fn is_local(&self) -> bool {
        matches!(self.spec.training.mode, Mode::Local { .. })
    }

    /// The spec of a worker who takes half the steps over the same samples.
    pub fn with_fewer_steps(&self) -> JobSpec {
        let mut spec = self.spec.clone();
        spec.training.batch *= 2;
        if let Mode::Local { steps, .. } = &mut spec.training.mode {
            *steps /= 2;
        }
        spec
    }
}
