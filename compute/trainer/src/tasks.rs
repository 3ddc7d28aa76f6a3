//! Each task and each kind of layer for it is learnt to the end on a little data.

use std::collections::BTreeMap;

use deepmarket_dataset::{Generator, Options, generate};
use deepmarket_job::{DatasetManifest, Features, JobSpec, Shard, Targets, protocol::Part};
use deepmarket_types::Hash;
use safetensors::tensor::TensorView;

use crate::{
    Evaluation, Trainer,
    testing::{SAMPLES, dataset, run, sequences, spec_of, trainer_on},
};

const ADAM: &str = "optimizer = { adam = { lr = 0.02 } }\nbatch = 8\nepochs = 100";

/// What the model knows after some rounds.
fn learnt(data: (DatasetManifest, Vec<u8>), layers: &str, loss: &str, rounds: u64) -> Evaluation {
    let training = format!("loss = \"{loss}\"\n{ADAM}");
    let mut trainer = trainer_on(data.clone(), spec_of(&format!("{:?}", data.0.shape), layers, &training));
    run(&mut trainer, rounds);
    trainer.evaluate()
}

#[test]
fn sequences_are_classified() {
    for layers in [
        "{ lstm = { hidden = 8, return_sequence = false } }",
        "{ gru = { hidden = 8 } }, \"last\"",
        "{ conv1d = { out = 8, kernel = 2 } }, \"relu\", { global_max_pool = {} }",
        "{ position_embedding = {} }, { transformer_encoder = { heads = 2, feed_forward = 16 } }, { global_avg_pool = {} }",
    ] {
        let layers = format!("{{ embedding = {{ vocabulary = 5, out = 8 }} }}, {layers}, {{ linear = {{ out = 2 }} }}");
        let Evaluation { samples, correct, .. } = learnt(sequences(false), &layers, "cross_entropy", 150);
        assert_eq!((samples, correct), (SAMPLES as u64, Some(SAMPLES as u64)), "{layers}");
    }
}

#[test]
fn next_tokens_are_told_and_counted_by_position() {
    for layers in [
        "{ lstm = { hidden = 12 } }",
        "{ position_embedding = {} }, { attention = { heads = 2, causal = true } }, { name = \"a\", gelu = {} }, { concat = { with = [\"a\"] } }",
        "{ position_embedding = { kind = \"sinusoidal\" } }, { transformer_encoder = { heads = 2, feed_forward = 16, causal = true } }",
    ] {
        let layers = format!("{{ embedding = {{ vocabulary = 5, out = 8 }} }}, {layers}, {{ linear = {{ out = 5 }} }}");
        let Evaluation { samples, correct, loss_sum } = learnt(sequences(true), &layers, "cross_entropy", 250);
        assert_eq!(samples, 6 * SAMPLES as u64);
        // What follows the first token can only be guessed: one of two.
        let told = correct.unwrap() as f64 / samples as f64;
        assert!(told > 5.3 / 6.0, "{told}: {layers}");
        assert!(loss_sum / (samples as f64) < 0.25, "{layers}");
    }
}

#[test]
fn values_are_fitted() {
    let shape = [SAMPLES, 2];
    let x: Vec<f32> = (0..SAMPLES * 2).map(|i| ((i * 37) % 41) as f32 / 20.0 - 1.0).collect();
    let y: Vec<f32> = x.chunks(2).map(|x| x[0] * x[1] + 0.5 * x[0]).collect();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (x, y) = (bytes(&x), bytes(&y));
    let view = |shape: &[usize], data| TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap();
    let shard = safetensors::serialize([("x", view(&shape, &x)), ("y", view(&[SAMPLES, 1], &y))], None).unwrap();
    let (mut manifest, _) = dataset();
    (manifest.shape, manifest.x, manifest.y) = (vec![2], Features::F32, Targets::Values { shape: vec![1] });
    manifest.splits[0].shards = vec![Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples: SAMPLES as u64 }];
    let layers = "{ linear = { out = 24 } }, \"tanh\", { linear = { out = 1 } }";
    let Evaluation { samples, correct, loss_sum } = learnt((manifest, shard), layers, "mse", 400);
    assert_eq!((samples, correct), (SAMPLES as u64, None));
    assert!(loss_sum / (samples as f64) < 0.01, "{loss_sum}");
}

#[test]
fn a_residual_network_learns_images() {
    let spec = spec_of("[1, 8, 8]", "\"flatten\", { linear = { out = 2 } }", &format!("loss = \"cross_entropy\"\n{ADAM}"));
    let preset = "[1, 8, 8]\npreset = { resnet-small = { width = 4, out = 2 } }";
    let text = spec.to_toml();
    let (before, after) = text.split_once("input = [1, 8, 8]").unwrap();
    let (_, after) = after.split_once("[training]").unwrap();
    let spec = JobSpec::from_toml(&format!("{before}input = {preset}\n[training]{after}"), &|_| None).unwrap();
    let mut trainer = trainer_on(dataset(), spec);
    run(&mut trainer, 30);
    assert_eq!(trainer.evaluate().correct, Some(SAMPLES as u64));
}

/// A model trained as one of the examples says, on data that is made up; what it knows then.
fn example(text: &str, kind: Generator, options: &Options, samples: u64) -> (Evaluation, f64) {
    let mut shards = BTreeMap::new();
    let mut sink = |hash, bytes: Vec<u8>| {
        shards.insert(hash, bytes);
        Ok(())
    };
    let manifest = generate(kind, samples, options, &mut sink).unwrap().manifest;
    let spec = JobSpec::from_toml(text, &|_| Some(manifest.hash())).unwrap();
    let of_split = |name: &str| manifest.split(name).unwrap().clone();
    let (train, test) = (of_split("train"), of_split("test"));
    let mut trainer = Trainer::new(spec, manifest, Hash::of(b"job"), 1, train.samples).unwrap();
    for (part, split) in [(Part::Train, train), (Part::Validate, test)] {
        for (index, shard) in (0..).zip(split.shards) {
            trainer.add_shard(part, index, &shards[&shard.hash]).unwrap();
        }
    }
    let first = trainer.evaluate();
    let rounds = trainer.schedule().rounds;
    run(&mut trainer, rounds);
    (trainer.evaluate(), first.loss_sum / first.samples as f64)
}

#[test]
fn the_examples_learn_made_up_data() {
    let text = include_str!("../../../examples/regression.toml");
    let (end, first) = example(text, Generator::Regression, &Options::new("made up"), 1000);
    let loss = end.loss_sum / end.samples as f64;
    assert!(loss < 0.05 * first, "{loss} after {first}");

    let text = include_str!("../../../examples/char-transformer.toml").replace("input = [128]", "input = [32]");
    let options = Options { length: 32, ..Options::new("made up") };
    let (end, first) = example(&text, Generator::Text, &options, 1000);
    let (told, loss) = (end.correct.unwrap() as f64 / end.samples as f64, end.loss_sum / end.samples as f64);
    assert!(told > 0.4 && loss < 0.5 * first, "{told}, {loss} after {first}");
}
