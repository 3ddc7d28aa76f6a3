//! Small jobs for this crate's tests.

use deepmarket_dataset::shard_bytes;
use deepmarket_job::{DatasetManifest, Decimal, Features, JobSpec, Shard, Split, Targets, protocol::Part};
use deepmarket_types::Hash;

use crate::Trainer;

/// Samples of the small dataset.
pub(crate) const SAMPLES: usize = 40;

/// A dataset of 8 × 8 images in two classes: bright above, or bright below.
pub(crate) fn dataset() -> (DatasetManifest, Vec<u8>) {
    let classes: Vec<u8> = (0..SAMPLES as u8).map(|i| i % 2).collect();
    let pixels = classes.iter().enumerate().flat_map(|(i, class)| {
        (0..64)
            .map(move |p| if (p < 32) == (*class == 0) { 200 - ((i * 7 + p) % 50) as u8 } else { ((i * 13 + p * 5) % 60) as u8 })
    });
    let shard = shard_bytes(&pixels.collect::<Vec<u8>>(), &classes, &[1, 8, 8]);
    let listed = Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples: SAMPLES as u64 };
    let manifest = DatasetManifest {
        name: "halves".into(),
        shape: vec![1, 8, 8],
        x: Features::U8 { mean: Decimal::from_nanos(400_000_000), std: Decimal::from_nanos(300_000_000) },
        y: Targets::Class { classes: 2 },
        splits: vec![Split { name: "train".into(), samples: SAMPLES as u64, shards: vec![listed] }],
    };
    (manifest, shard)
}

/// A spec for the small dataset from the layers and the training section's lines.
pub(crate) fn spec(layers: &str, training: &str) -> JobSpec {
    let text = format!(
        "name = \"test\"\n[workers]\nram_mib = 1024\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"halves\"\nvalidate = \"train\"\n\
         [model]\ninput = [1, 8, 8]\nlayers = [ {layers} ]\n[training]\n{training}\n"
    );
    JobSpec::from_toml(&text, &|_| Some(dataset().0.hash())).expect("a valid spec")
}

/// The only rank of a job, with its samples.
pub(crate) fn trainer(spec: JobSpec) -> Trainer {
    let (manifest, shard) = dataset();
    let mut trainer = Trainer::new(spec, manifest, Hash::of(b"job"), 0, 1, SAMPLES as u64).expect("a valid job");
    for part in [Part::Train, Part::Validate] {
        trainer.add_shard(part, &shard).expect("a valid shard");
    }
    trainer
}

/// Computes and applies rounds; the mean loss of each.
pub(crate) fn run(trainer: &mut Trainer, rounds: u64) -> Vec<f64> {
    let advance = |_| {
        let update = trainer.compute_round(trainer.round()).expect("a round");
        trainer.apply(&update.values).expect("an average");
        update.loss_sum / update.samples as f64
    };
    (0..rounds).map(advance).collect()
}
