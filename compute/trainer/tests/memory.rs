//! What a spec is said to need is at least what its trainer uses: the constants of `deepmarket-job`'s sizing, measured.

mod common;

use std::path::Path;

use common::{Dataset, Process, evaluate, round};
use deepmarket_dataset::shard_bytes;
use deepmarket_job::{
    BASELINE_MIB, DatasetManifest, Decimal, Features, JobSpec, Shard, Split, Targets,
    protocol::{Reply, Request},
};
use deepmarket_types::Hash;
use safetensors::tensor::TensorView;

/// 512 samples of 28 × 28: small against what is measured.
fn dataset() -> Dataset {
    let classes: Vec<u8> = (0..512).map(|i| (i % 10) as u8).collect();
    let bytes = shard_bytes(&(0..512 * 784).map(|i| (i * 31 % 251) as u8).collect::<Vec<u8>>(), &classes, &[1, 28, 28]);
    let shard = Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: 512 };
    let splits = ["train", "test"].map(|name| Split { name: name.into(), samples: 512, shards: vec![shard] }).to_vec();
    let x = Features::U8 { mean: Decimal::ZERO, std: Decimal::ONE };
    let manifest = DatasetManifest { name: "noise".into(), shape: vec![1, 28, 28], x, y: Targets::Class { classes: 10 }, splits };
    Dataset { manifest, shards: vec![(shard.hash, bytes)] }
}

/// 256 sequences of tokens, each with the next ones.
fn sequences(length: u32) -> Dataset {
    let tokens =
        |shift: u32| (0..256 * length).flat_map(move |i| ((i * 31 + shift) as u16 % 256).to_le_bytes()).collect::<Vec<u8>>();
    let (x, y) = (tokens(0), tokens(1));
    let view = |data| TensorView::new(safetensors::Dtype::U16, vec![256, length as usize], data).expect("tokens of two bytes");
    let bytes = safetensors::serialize([("x", view(&x)), ("y", view(&y))], None).expect("two tensors");
    let shard = Shard { hash: Hash::of(&bytes), bytes: bytes.len() as u64, samples: 256 };
    let splits = ["train", "test"].map(|name| Split { name: name.into(), samples: 256, shards: vec![shard] }).to_vec();
    let (x, y) = (Features::Tokens { vocabulary: 256 }, Targets::Tokens { vocabulary: 256 });
    let manifest = DatasetManifest { name: "text".into(), shape: vec![length], x, y, splits };
    Dataset { manifest, shards: vec![(shard.hash, bytes)] }
}

/// Peak memory of two rounds, an evaluation, a checkpoint and an export, and what the spec's check says.
fn peak_and_sized_mib(dataset: &Dataset, layers: &str, batch: u32, mode: &str) -> (u64, u64) {
    let input = &dataset.manifest.shape;
    let text = format!(
        "name = \"memory\"\n[workers]\nram_mib = 8192\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"noise\"\n[model]\n\
         input = {input:?}\nlayers = [ {layers} ]\n[training]\nloss = \"cross_entropy\"\noptimizer = {{ adam = {{ lr = 1e-4 }} }}\n\
         batch = {batch}\nepochs = 4\nmode = {mode}\n"
    );
    let spec = JobSpec::from_toml(&text, &|_| Some(dataset.manifest.hash())).expect("a valid spec");
    let mut ranks = vec![Process::start(Path::new(env!("CARGO_BIN_EXE_deepmarket-trainer")), &["--ram-mib", "8192"])];
    ranks[0].join(&spec, dataset, 0, 1);
    round(&mut ranks, 0);
    evaluate(&mut ranks);
    for request in [Request::Save { trained: 0 }, Request::Export] {
        assert!(!matches!(ranks[0].ask(&request), Reply::Failed { .. }));
    }
    let peak = round(&mut ranks, 1).peak_ram_mib;
    (peak, spec.check().expect("it was checked").ram_mib * 8 / 10)
}

#[test]
fn a_trainer_uses_no_more_memory_than_its_spec_was_sized_for() {
    let conv = |out| format!("{{ conv2d = {{ out = {out}, kernel = 3, padding = 1 }} }}, \"relu\", ");
    let pool = "{ max_pool2d = { kernel = 2 } }, ";
    let norms = |out| format!("{{ conv2d = {{ out = {out}, kernel = 3, padding = 1 }} }}, \"batch_norm\", \"gelu\", ");
    let head = "\"flatten\", { linear = { out = 10 } }";
    for (layers, batch, mode) in [
        (format!("{}{pool}{}{pool}{head}", conv(16), conv(32)), 64, "\"sync\""),
        (format!("{}{}{pool}{{ dropout = {{ rate = 0.25 }} }}, {head}", conv(32), conv(64)), 256, "\"sync\""),
        (format!("{}{}{pool}{head}", norms(16), norms(16)), 128, "{ local = { steps = 2 } }"),
        (
            format!("\"flatten\", {{ linear = {{ out = 4096 }} }}, \"relu\", {{ linear = {{ out = 2048 }} }}, {head}"),
            16,
            "\"sync\"",
        ),
        (format!("\"flatten\", {{ linear = {{ out = 4096 }} }}, \"relu\", {head}"), 16, "{ local = { steps = 2 } }"),
    ] {
        check(&dataset(), &layers, batch, mode);
    }
}

fn check(dataset: &Dataset, layers: &str, batch: u32, mode: &str) {
    let (peak, sized) = peak_and_sized_mib(dataset, layers, batch, mode);
    println!("{peak} of {sized} MiB: batch {batch}, {mode}, {layers}");
    assert!(peak <= sized, "{peak} MiB used, {sized} MiB sized: {layers}");
    assert!(peak + BASELINE_MIB > sized / 6, "sized far too generously: {peak} MiB used, {sized} MiB sized: {layers}");
}

#[test]
fn a_trainer_of_sequences_uses_no_more_memory_than_its_spec_was_sized_for() {
    let embed = "{ embedding = { vocabulary = 256, out = 64 } }, { position_embedding = {} }";
    let block = "{ transformer_encoder = { heads = 4, feed_forward = 256, causal = true, dropout = 0.1 } }";
    let next_token = "{ layer_norm = {} }, { linear = { out = 256 } }";
    for (length, layers, batch) in [
        (64, format!("{embed}, {block}, {block}, {next_token}"), 32),
        (256, format!("{embed}, {block}, {next_token}"), 16),
        (256, format!("{embed}, {{ attention = {{ heads = 8 }} }}, {next_token}"), 16),
        (64, format!("{embed}, {{ lstm = {{ hidden = 256 }} }}, {next_token}"), 64),
        (64, format!("{embed}, {{ gru = {{ hidden = 256 }} }}, {{ gru = {{ hidden = 256 }} }}, {next_token}"), 64),
        (128, format!("{embed}, {{ conv1d = {{ out = 128, kernel = 5, padding = 2 }} }}, \"relu\", {next_token}"), 64),
        (128, format!("{embed}, {{ linear = {{ out = 16 }} }}, {{ linear = {{ out = 256 }} }}"), 128),
    ] {
        check(&sequences(length), &layers, batch, "\"sync\"");
    }
}

#[test]
fn a_trainer_of_a_residual_network_uses_no_more_memory_than_its_spec_was_sized_for() {
    let conv = "{ conv2d = { out = 16, kernel = 3, padding = 1 } }, \"batch_norm\"";
    let block = |name| {
        format!(
            "{conv}, {{ relu = {{}}, name = \"{name}\" }}, {conv}, \"relu\", {conv}, {{ add = {{ with = [\"{name}\"] }} }}, \"relu\""
        )
    };
    let layers = format!("{}, {}, \"global_avg_pool\", {{ linear = {{ out = 10 }} }}", block("a"), block("b"));
    check(&dataset(), &layers, 64, "\"sync\"");
}

/// The allocator must not take its limit ahead: a limit is for what the job uses.
#[test]
#[cfg(target_os = "linux")]
fn a_trainer_that_does_nothing_yet_has_spent_almost_nothing_of_its_limit() {
    let mut process = Process::start(Path::new(env!("CARGO_BIN_EXE_deepmarket-trainer")), &["--ram-mib", "1024"]);
    // It answers, so it has set itself up.
    assert!(matches!(process.ask(&Request::Measure { seed: 1 }), Reply::Measured { .. }));
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("it runs");
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("Linux tells it");
    let kib: u64 = data.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number");
    assert!(kib < 512 * 1024, "{kib} KiB count as used");
}
