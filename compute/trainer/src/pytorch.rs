//! Compares models with PyTorch, where Python has it (`PYTHON` names another one than `python3`); else says so and passes.

use std::{path::Path, process::Command};

use deepmarket_job::{DatasetManifest, protocol::Part};
use deepmarket_types::Hash;
use safetensors::tensor::TensorView;

use crate::{
    Trainer,
    samples::Samples,
    testing::{SAMPLES, dataset, run, sequences, spec_of, trainer_on},
};

/// Loads the model as users do, and compares its outputs with ours; prints the greatest difference.
const COMPARE: &str = "
import sys
sys.path.insert(0, sys.argv[1])
from load_model import load, read
model = load(sys.argv[2])
_, given = read(sys.argv[3])
difference = (model(given['x']).reshape(-1) - given['outputs']).abs().max().item()
print(difference)
";

#[test]
fn pytorch_computes_the_same_with_the_exported_tensors() {
    let python = std::env::var("PYTHON").unwrap_or("python3".into());
    let has_torch =
        Command::new(&python).args(["-c", "import torch, tomllib"]).output().is_ok_and(|output| output.status.success());
    if !has_torch {
        eprintln!("skipped: {python} has no torch");
        return;
    }
    let embed = "{ embedding = { vocabulary = 5, out = 4 } }";
    let next_token = "{ layer_norm = {} }, { linear = { out = 5 } }";
    for (data, layers) in [
        (
            dataset(),
            "{ conv2d = { out = 4, kernel = 3, padding = 1 }, name = \"a\" }, { batch_norm = {} }, \"relu\", \
             { conv2d = { out = 4, kernel = 3, padding = 1, stride = 1 } }, { batch_norm = {} }, { add = { with = [\"a\"] } }, \"relu\", \
             { max_pool2d = { kernel = 2 }, name = \"b\" }, { take = { from = \"a\" } }, { avg_pool2d = { kernel = 2 } }, \
             { concat = { with = [\"b\"] } }, \"gelu\", { dropout = { rate = 0.5 } }, { global_avg_pool = {} }, { linear = { out = 2 } }"
                .to_owned(),
        ),
        (
            dataset(),
            "{ reshape = { to = [8, 8] } }, { lstm = { hidden = 5 } }, { gru = { hidden = 3, return_sequence = false } }, \"tanh\", \
             { batch_norm = {} }, { linear = { out = 2 } }"
                .to_owned(),
        ),
        (dataset(), "{ reshape = { to = [8, 8] } }, { gru = { hidden = 5 } }, { global_max_pool = {} }, { linear = { out = 2 } }".to_owned()),
        (
            sequences(true),
            format!(
                "{embed}, {{ position_embedding = {{}} }}, {{ attention = {{ heads = 2, causal = true }} }}, \
                 {{ transformer_encoder = {{ heads = 2, feed_forward = 7, causal = true, dropout = 0.1 }} }}, {next_token}"
            ),
        ),
        (
            sequences(true),
            format!(
                "{embed}, {{ position_embedding = {{ kind = \"sinusoidal\" }} }}, {{ conv1d = {{ out = 6, kernel = 3, padding = 1 }} }}, \
                 {{ attention = {{ heads = 3 }} }}, {{ transformer_encoder = {{ heads = 1, feed_forward = 3 }} }}, \"sigmoid\", {next_token}"
            ),
        ),
        (
            sequences(false),
            format!(
                "{embed}, {{ conv1d = {{ out = 3, kernel = 2, stride = 2, padding = 1 }} }}, {{ lstm = {{ hidden = 3 }} }}, \"last\", \
                 {{ linear = {{ out = 2 }} }}"
            ),
        ),
    ] {
        let difference = difference(&python, data, &layers);
        assert!(difference < 2e-5, "{difference}: {layers}");
    }
}

/// Trains a little, so that no tensor is what it was at the beginning.
fn difference(python: &str, (manifest, shard): (DatasetManifest, Vec<u8>), layers: &str) -> f32 {
    let training = "loss = \"cross_entropy\"\noptimizer = { adam = { lr = 0.02 } }\nbatch = 8\nepochs = 3";
    let spec = spec_of(&format!("{:?}", manifest.shape), layers, training);
    let mut samples = Samples::new(&manifest);
    samples.add(&manifest, 0, manifest.splits[0].shards[0].samples, &shard).unwrap();
    let x = samples.features(&(0..SAMPLES as u32).collect::<Vec<u32>>());
    let shape: Vec<usize> = std::iter::once(SAMPLES).chain(manifest.shape.iter().map(|d| *d as usize)).collect();
    let mut trainer = Trainer::new(spec, manifest, Hash::of(b"job"), 1, SAMPLES as u64).unwrap();
    trainer.add_shard(Part::Train, 0, &shard).unwrap();
    trainer.add_shard(Part::Validate, 0, &shard).unwrap();
    run(&mut trainer, 5);
    let outputs = trainer.predict(0).unwrap().0;

    let folder = tempfile::tempdir().unwrap();
    let (model, given) = (folder.path().join("model.safetensors"), folder.path().join("given.safetensors"));
    let [x, outputs_bytes] = [&x, &outputs].map(|floats| deepmarket_job::protocol::floats_to_bytes(floats));
    let view = |shape, data| TensorView::new(safetensors::Dtype::F32, shape, data).unwrap();
    let tensors = [("x", view(shape, &x[..])), ("outputs", view(vec![outputs.len()], &outputs_bytes[..]))];
    std::fs::write(&given, safetensors::serialize(tensors, None).unwrap()).unwrap();
    std::fs::write(&model, trainer.export()).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let output = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("-c")
        .arg(COMPARE)
        .args([&examples, &model, &given])
        .output()
        .unwrap();
    assert!(output.status.success(), "{layers}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn tensors_have_the_names_and_shapes_of_pytorchs_modules() {
    let layers = "{ embedding = { vocabulary = 5, out = 4 } }, { position_embedding = {} }, { attention = { heads = 2 } }, \
                  { transformer_encoder = { heads = 2, feed_forward = 7 } }, { conv1d = { out = 3, kernel = 2 } }, \
                  { lstm = { hidden = 5 } }, { gru = { hidden = 6 } }, \"last\", { linear = { out = 2 } }";
    let training = "loss = \"cross_entropy\"\noptimizer = { adam = { lr = 0.02 } }\nbatch = 8\nepochs = 3";
    let trainer = trainer_on(sequences(false), spec_of("[6]", layers, training));
    let file = trainer.export();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut names: Vec<String> = tensors.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
    names.sort_unstable();
    let expected = [
        "0.weight [5, 4]",
        "1.weight [6, 4]",
        "2.in_proj_bias [12]",
        "2.in_proj_weight [12, 4]",
        "2.out_proj.bias [4]",
        "2.out_proj.weight [4, 4]",
        "3.linear1.bias [7]",
        "3.linear1.weight [7, 4]",
        "3.linear2.bias [4]",
        "3.linear2.weight [4, 7]",
        "3.norm1.bias [4]",
        "3.norm1.weight [4]",
        "3.norm2.bias [4]",
        "3.norm2.weight [4]",
        "3.self_attn.in_proj_bias [12]",
        "3.self_attn.in_proj_weight [12, 4]",
        "3.self_attn.out_proj.bias [4]",
        "3.self_attn.out_proj.weight [4, 4]",
        "4.bias [3]",
        "4.weight [3, 4, 2]",
        "5.bias_hh_l0 [20]",
        "5.bias_ih_l0 [20]",
        "5.weight_hh_l0 [20, 5]",
        "5.weight_ih_l0 [20, 3]",
        "6.bias_hh_l0 [18]",
        "6.bias_ih_l0 [18]",
        "6.weight_hh_l0 [18, 6]",
        "6.weight_ih_l0 [18, 5]",
        "8.bias [2]",
        "8.weight [2, 6]",
    ];
    assert_eq!(names, expected);
    let mut other = trainer_on(sequences(false), spec_of("[6]", layers, &format!("{training}\nseed = 9")));
    assert_ne!(other.parameters_hash(), trainer.parameters_hash());
    other.load_model(&file).unwrap();
    assert_eq!((other.parameters_hash(), other.evaluate()), (trainer.parameters_hash(), trainer.evaluate()));
}
