//! Small jobs for this crate's tests.

use deepmarket_dataset::shard_bytes;
use deepmarket_job::{DatasetManifest, Decimal, Features, JobSpec, Shard, Split, Targets, protocol::Part};
use deepmarket_types::Hash;
use safetensors::tensor::TensorView;

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

/// Samples of the dataset in five shards.
pub(crate) const SHARDED_SAMPLES: u64 = 8 + 9 + 10 + 11 + 12;

/// The same kind of images in five shards of different sizes.
pub(crate) fn sharded() -> (DatasetManifest, Vec<Vec<u8>>) {
    let (mut manifest, _) = dataset();
    let shard = |number: u8| {
        let classes: Vec<u8> = (0..8 + number).map(|i| (i + number) % 2).collect();
        let pixel = |i: usize, class: u8, p: usize| {
            let noise = ((i * 7 + p * 3 + usize::from(number) * 11) % 60) as u8;
            if (p < 32) == (class == 0) { 200 - noise } else { noise }
        };
        let pixels: Vec<u8> =
            classes.iter().enumerate().flat_map(|(i, class)| (0..64).map(move |p| pixel(i, *class, p))).collect();
        shard_bytes(&pixels, &classes, &[1, 8, 8])
    };
    let shards: Vec<Vec<u8>> = (0..5).map(shard).collect();
    let listed = (8..).zip(&shards).map(|(samples, bytes)| Shard { hash: Hash::of(bytes), bytes: bytes.len() as u64, samples });
    manifest.splits = vec![Split { name: "train".into(), samples: SHARDED_SAMPLES, shards: listed.collect() }];
    (manifest, shards)
}

/// Sequences of six tokens, of which there are five: each is two more than the one before (around the end), or one more.
/// `y` is which of the two, or the next token at each position.
pub(crate) fn sequences(next_token: bool) -> (DatasetManifest, Vec<u8>) {
    const LENGTH: usize = 6;
    let token = |sample: usize, position: usize| ((sample / 2 + position * (1 + sample % 2)) % 5) as u16;
    let tokens = |shift: usize| (0..SAMPLES).flat_map(move |sample| (0..LENGTH).map(move |at| token(sample, at + shift)));
    let bytes = |tokens: &mut dyn Iterator<Item = u16>| tokens.flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let x = bytes(&mut tokens(0));
    let (y, shape) = match next_token {
        true => (bytes(&mut tokens(1)), vec![SAMPLES, LENGTH]),
        false => (bytes(&mut (0..SAMPLES).map(|sample| sample as u16 % 2)), vec![SAMPLES]),
    };
    let view = |shape, data| TensorView::new(safetensors::Dtype::U16, shape, data).expect("the shape is the data's");
    let shard = safetensors::serialize([("x", view(vec![SAMPLES, LENGTH], &x)), ("y", view(shape, &y))], None);
    let shard = shard.expect("two tensors");
    let (mut manifest, _) = dataset();
    manifest.shape = vec![LENGTH as u32];
    manifest.x = Features::Tokens { vocabulary: 5 };
    manifest.y = if next_token { Targets::Tokens { vocabulary: 5 } } else { Targets::Class { classes: 2 } };
    manifest.splits[0].shards = vec![Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples: SAMPLES as u64 }];
    (manifest, shard)
}

/// A spec for the small dataset from the layers and the training section's lines.
pub(crate) fn spec(layers: &str, training: &str) -> JobSpec {
    spec_of("[1, 8, 8]", layers, training)
}

/// A spec for samples of a shape.
pub(crate) fn spec_of(input: &str, layers: &str, training: &str) -> JobSpec {
    let text = format!(
        "name = \"test\"\n[workers]\nram_mib = 1024\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"halves\"\nvalidate = \"train\"\n\
         [model]\ninput = {input}\nlayers = [ {layers} ]\n[training]\n{training}\n"
    );
    JobSpec::from_toml(&text, &|_| Some(dataset().0.hash())).expect("a valid spec")
}

/// The only rank of a job, with its samples.
pub(crate) fn trainer(spec: JobSpec) -> Trainer {
    trainer_on(dataset(), spec)
}

/// As [`trainer`], on another dataset.
pub(crate) fn trainer_on((manifest, shard): (DatasetManifest, Vec<u8>), spec: JobSpec) -> Trainer {
    let mut trainer = Trainer::new(spec, manifest, Hash::of(b"job"), 1, SAMPLES as u64).expect("a valid job");
    for part in [Part::Train, Part::Validate] {
        trainer.add_shard(part, 0, &shard).expect("a valid shard");
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
