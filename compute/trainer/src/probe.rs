use std::sync::OnceLock;

use burn::tensor::{Device, Tensor, TensorData, activation};
use deepmarket_job::{DatasetManifest, Decimal, Features, JobSpec, Shard, Split, Targets, protocol::Part};
use deepmarket_types::{Hash, MachineConfig};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use safetensors::{Dtype, tensor::TensorView};

use crate::{Trainer, hashing::hash_floats, network::to_vec};

/// Bytes of the digest in a class's name.
const NAMED_BYTES: usize = 8;

/// Names the determinism class of this program on this machine: version, architecture, instruction set, and a digest of what a fixed
/// round of training gives here ([`probe`]). Hashes of rounds can be compared inside one class only. Computed once in a process.
pub fn determinism_class() -> String {
    static CLASS: OnceLock<String> = OnceLock::new();
    CLASS.get_or_init(name).clone()
}

fn name() -> String {
    let digest = digits(&probe());
    let class = format!("{} {} {} {digest}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, instruction_set());
    class.chars().take(MachineConfig::TEXT_LIMIT).collect()
}

fn digits(digest: &Hash) -> String {
    digest.0[..NAMED_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What of the CPU the kernels choose by: on x86-64 one with fused multiply-adds or one without. Wider registers (AVX-512) aren't used, and
/// AVX2 without fused multiply-adds gives the bits of SSE2.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return if is_x86_feature_detected!("fma") { "avx2+fma" } else { "sse2" };
    #[cfg(target_arch = "aarch64")]
    return if std::arch::is_aarch64_feature_detected!("neon") { "neon" } else { "scalar" };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    "scalar"
}

/// The digest of a fixed computation that meets whatever is known to differ between machines, and whatever may: products of matrices
/// with sums over more than 1,024 terms (cut by cache sizes), fused multiply-adds, functions of the system's mathematical library,
/// convolutions, pooling, recurrent layers, attention, normalisation, and a few steps of Adam over all of them.
pub fn probe() -> Hash {
    crate::fix_blocking();
    let images = steps(&images(), IMAGE_NET);
    let sequences = steps(&sequences(), SEQUENCE_NET);
    let parts: Vec<Hash> = images.into_iter().chain(sequences).chain([functions()]).collect();
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.0.as_slice()).collect();
    Hash::tagged("deepmarket/v1/probe", &parts)
}

/// A convolutional net whose first linear layer sums over 1,536 features.
const IMAGE_NET: &str = "input = [1, 16, 16]
layers = [
  { conv2d = { out = 8, kernel = 3, padding = 1 } }, \"relu\", { max_pool2d = { kernel = 2 } },
  { conv2d = { out = 24, kernel = 3, padding = 1 } }, { batch_norm = {} }, \"gelu\", \"flatten\",
  { dropout = { rate = 0.25 } }, { linear = { out = 80 } }, { layer_norm = {} }, \"tanh\", { linear = { out = 10 } },
]
[training]
loss = \"cross_entropy\"
optimizer = { adam = { lr = 0.003 } }
batch = 72
epochs = 1
mode = { local = { steps = 3 } }
";

/// A language model whose weights' gradients sum over 1,152 positions.
const SEQUENCE_NET: &str = "input = [48]
layers = [
  { embedding = { vocabulary = 64, out = 32 } }, { position_embedding = { kind = \"sinusoidal\" } },
  { transformer_encoder = { heads = 4, feed_forward = 96, causal = true, dropout = 0.1 } },
  { lstm = { hidden = 24 } }, \"sigmoid\", { gru = { hidden = 24 } }, { layer_norm = {} }, { linear = { out = 64 } },
]
[training]
loss = \"cross_entropy\"
optimizer = { adamw = { lr = 0.003 } }
batch = 24
epochs = 1
mode = { local = { steps = 2 } }
";

/// A split of one shard.
struct Data {
    manifest: DatasetManifest,
    shard: Vec<u8>,
}

impl Data {
    fn new(shape: Vec<u32>, samples: u64, x: (Features, Dtype, &[u8]), y: (Targets, Dtype, &[u8])) -> Data {
        let of_all = || [samples as usize].into_iter().chain(shape.iter().map(|d| *d as usize)).collect::<Vec<usize>>();
        let y_shape = match y.0 {
            Targets::Tokens { .. } => of_all(),
            _ => vec![samples as usize],
        };
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("as many bytes as the shape says");
        let tensors = [("x", view(x.1, of_all(), x.2)), ("y", view(y.1, y_shape, y.2))];
        let shard = safetensors::serialize(tensors, None).expect("two tensors");
        let listed = Shard { hash: Hash::of(&shard), bytes: shard.len() as u64, samples };
        let splits = vec![Split { name: "train".into(), samples, shards: vec![listed] }];
        Data { manifest: DatasetManifest { name: "probe".into(), shape, x: x.0, y: y.0, splits }, shard }
    }
}

fn random(bytes: usize) -> Vec<u8> {
    let mut random = vec![0; bytes];
    ChaCha8Rng::from_seed(Hash::of(b"deepmarket/v1/probe").0).fill_bytes(&mut random);
    random
}

/// Random images in ten classes.
fn images() -> Data {
    const SAMPLES: usize = 216;
    let x = random(SAMPLES * 16 * 16);
    let y: Vec<u8> = x.iter().step_by(16 * 16).map(|byte| byte % 10).collect();
    let features = Features::U8 { mean: Decimal::from_nanos(500_000_000), std: Decimal::from_nanos(300_000_000) };
    let targets = Targets::Class { classes: 10 };
    Data::new(vec![1, 16, 16], SAMPLES as u64, (features, Dtype::U8, &x), (targets, Dtype::U8, &y))
}

/// Random sequences, each token with the next one.
fn sequences() -> Data {
    const VALUES: usize = 48 * 48;
    let tokens: Vec<u8> = random(VALUES + 1).iter().flat_map(|byte| u16::from(byte % 64).to_le_bytes()).collect();
    let (x, y) = (&tokens[..2 * VALUES], &tokens[2..]);
    let (features, targets) = (Features::Tokens { vocabulary: 64 }, Targets::Tokens { vocabulary: 64 });
    Data::new(vec![48], 48, (features, Dtype::U16, x), (targets, Dtype::U16, y))
}

/// The states after the steps of one round.
fn steps(data: &Data, model_and_training: &str) -> Vec<Hash> {
    let text = format!(
        "name = \"probe\"\n[workers]\nram_mib = 1024\n[budget]\nmax_credits = 1\n[data]\nmanifest = \"probe\"\nvalidate = \"train\"\n\
         [model]\n{model_and_training}"
    );
    let spec = JobSpec::from_toml(&text, &|_| Some(data.manifest.hash())).expect("the probe's spec is valid");
    let samples = data.manifest.splits[0].samples;
    let trainer = Trainer::new(spec, data.manifest.clone(), Hash::of(b"probe"), 1, samples);
    let mut trainer = trainer.expect("the probe's spec is valid");
    trainer.add_shard(Part::Train, 0, &data.shard).expect("the probe's shard is valid");
    trainer.compute_round(0).expect("the probe doesn't diverge").steps
}

/// The functions that come from the system's mathematical library, over many arguments.
fn functions() -> Hash {
    const VALUES: i32 = 1 << 14;
    let values: Vec<f32> = (-VALUES..VALUES).map(|i| i as f32 / (VALUES / 16) as f32).collect();
    let x = Tensor::<1>::from_data(TensorData::new(values, [2 * VALUES as usize]), &Device::flex());
    let positive = || x.clone().abs() + 1e-4;
    let results = [
        x.clone().exp(),
        positive().log(),
        positive().sqrt(),
        x.clone().tanh(),
        x.clone().erf(),
        x.clone().sin(),
        x.clone().cos(),
        activation::sigmoid(x.clone()),
    ];
    let results: Vec<f32> = results.into_iter().flat_map(to_vec).collect();
    hash_floats("deepmarket/v1/probe", &results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_the_same_each_time_and_on_threads_beside_each_other() {
        let alone = probe();
        let beside: Vec<Hash> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(probe)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(beside, [alone; 4]);
        assert!(determinism_class().ends_with(&digits(&alone)), "{}", determinism_class());
    }

    #[test]
    fn a_class_is_a_machines_text() {
        let class = determinism_class();
        assert!(class.len() <= MachineConfig::TEXT_LIMIT && class.bytes().all(|byte| (32..127).contains(&byte)), "{class}");
        assert_eq!(class.split(' ').count(), 4);
        assert!(class.contains(std::env::consts::ARCH) && class.starts_with(env!("CARGO_PKG_VERSION")), "{class}");
    }
}
