//! Any valid spec survives its bytes and its TOML; no bytes and no text make the reader panic.

use deepmarket_job::{
    Budget, Data, DatasetManifest, Decimal, Features, JobSpec, Kind, Layer, LearningRate, Loss, Mode, Model, Optimizer, Recovery,
    Shard, Split, Targets, Training, Workers, shards_of_rank,
};
use deepmarket_types::{Credits, Hash};
use proptest::prelude::*;

fn rate() -> impl Strategy<Value = Decimal> {
    (0_i64..1_000_000_000).prop_map(Decimal::from_nanos)
}

fn positive() -> impl Strategy<Value = Decimal> {
    (1_i64..=1_000_000_000).prop_map(Decimal::from_nanos)
}

fn image_layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (1_u32..5, 1_u32..4, 1_u32..3).prop_map(|(out, kernel, stride)| Layer::Conv2d {
            out,
            kernel,
            stride,
            padding: kernel - 1
        }),
        (1_u32..3, 1_u32..3).prop_map(|(kernel, stride)| Layer::MaxPool2d { kernel, stride, padding: kernel / 2 }),
        (1_u32..3, 1_u32..3).prop_map(|(kernel, stride)| Layer::AvgPool2d { kernel, stride, padding: kernel / 2 }),
        any_shape_layer(),
    ]
}

fn any_shape_layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (positive(), positive()).prop_map(|(momentum, epsilon)| Layer::BatchNorm { momentum, epsilon }),
        rate().prop_map(|rate| Layer::Dropout { rate }),
        prop_oneof![Just(Layer::Relu), Just(Layer::Gelu), Just(Layer::Sigmoid), Just(Layer::Tanh)],
    ]
}

fn flat_layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (1_u32..50).prop_map(|out| Layer::Linear { out }),
        positive().prop_map(|epsilon| Layer::LayerNorm { epsilon }),
        Just(Layer::Softmax),
        any_shape_layer(),
    ]
}

fn optimizer() -> impl Strategy<Value = Optimizer> {
    let adam = (positive(), rate(), rate(), rate(), rate(), any::<bool>());
    prop_oneof![
        (positive(), positive(), rate(), any::<bool>()).prop_map(|(lr, momentum, weight_decay, nesterov)| Optimizer::Sgd {
            lr,
            momentum: Decimal::from_nanos(momentum.nanos().min(999_999_999)),
            weight_decay,
            nesterov,
        }),
        adam.prop_map(|(lr, beta1, beta2, epsilon, weight_decay, adamw)| match adamw {
            true => Optimizer::AdamW { lr, beta1, beta2, epsilon, weight_decay },
            false => Optimizer::Adam { lr, beta1, beta2, epsilon, weight_decay },
        }),
    ]
}

fn schedule() -> impl Strategy<Value = LearningRate> {
    prop_oneof![
        any::<u32>().prop_map(|warmup_steps| LearningRate::Constant { warmup_steps }),
        (1_u32..100, positive(), any::<u32>()).prop_map(|(every_epochs, factor, warmup_steps)| LearningRate::Step {
            every_epochs,
            factor,
            warmup_steps
        }),
        any::<u32>().prop_map(|warmup_steps| LearningRate::Cosine { final_lr: Decimal::ZERO, warmup_steps }),
    ]
}

prop_compose! {
    fn training()(
        optimizer in optimizer(), schedule in schedule(), batch in 1_u32..64, epochs in 1_u32..100, seed: u64,
        mode in prop_oneof![Just(Mode::Sync), (1_u32..1000).prop_map(|steps| Mode::Local { steps })],
    ) -> Training {
        Training { loss: Loss::Mse, optimizer, schedule, batch, epochs, seed, mode }
    }
}

prop_compose! {
    fn spec()(
        name in "[ -~äß→\"\\\\]{1,60}", min in 1_u32..8, more in 0_u32..8, cores in 1_u32..64, disk_mib in 0_u64..100_000, share_machine: bool,
        micro in 1_u64..u64::MAX, slots in proptest::sample::subsequence(vec![0_u8, 1, 2, 3], 0..=4), manifest: [u8; 32],
        images in proptest::collection::vec(image_layer(), 0..6), flats in proptest::collection::vec(flat_layer(), 0..6),
        training in training(), checkpoint_rounds: u32,
    ) -> JobSpec {
        let mut layers = images;
        layers.push(Layer::Flatten);
        layers.extend(flats);
        layers.push(Layer::Linear { out: 3 });
        JobSpec {
            name,
            kind: Kind::Train,
            workers: Workers { min, max: min + more, cores, gpus: 0, ram_mib: 4096, disk_mib, share_machine },
            budget: Budget { max: Credits::from_micro(micro), slots },
            data: Data { manifest: Hash(manifest), train: "train".into(), validate: "test".into() },
            model: Model { input: vec![1, 8, 8], layers },
            training,
            recovery: Recovery { checkpoint_rounds },
        }
    }
}

proptest! {
    #[test]
    fn a_valid_spec_survives_its_bytes_and_its_toml(spec in spec()) {
        let size = spec.check();
        prop_assume!(size.is_ok());
        prop_assert_eq!(&JobSpec::from_bytes(&spec.to_bytes()).unwrap(), &spec);
        prop_assert_eq!(&JobSpec::from_toml(&spec.to_toml(), &|_| None).unwrap(), &spec);
    }

    #[test]
    fn no_change_of_a_specs_bytes_is_read_as_the_same_spec_or_panics(spec in spec(), index: prop::sample::Index, byte: u8) {
        let bytes = spec.to_bytes();
        let mut changed = bytes.clone();
        let index = index.index(bytes.len());
        changed[index] = byte;
        if let Ok(other) = JobSpec::from_bytes(&changed) {
            prop_assert_eq!(other == spec, changed == bytes);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(name|kind|\\[workers\\]|layers|[={}\\[\\]\"\n 0-9.e-])*") {
        let _ = JobSpec::from_toml(&text, &|_| None);
    }

    #[test]
    fn shards_are_shared_out_completely(shards in 0_usize..100, world in 1_u32..10) {
        let shards = vec![Shard { hash: Hash::default(), bytes: 1, samples: 1 }; shards];
        let mut all: Vec<usize> = (0..world).flat_map(|rank| shards_of_rank(&shards, world, rank)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..shards.len()).collect::<Vec<_>>());
    }
}

fn manifest() -> DatasetManifest {
    DatasetManifest {
        name: "tiny".into(),
        shape: vec![1, 8, 8],
        x: Features::U8 { mean: Decimal::ZERO, std: Decimal::ONE },
        y: Targets::Class { classes: 3 },
        splits: vec![Split {
            name: "train".into(),
            samples: 2,
            shards: vec![Shard { hash: Hash::of(b"shard"), bytes: 200, samples: 2 }],
        }],
    }
}

#[test]
fn a_manifest_survives_its_bytes_and_a_wrong_one_is_refused() {
    let good = manifest();
    assert_eq!(DatasetManifest::from_bytes(&good.to_bytes()).unwrap(), good);
    assert_eq!(good.hash().to_string(), "blake3:f5a4c0538d1e4c4d92e844ce6838c471a756977c2fab24be59c2719ae21b086e");
    let refused = |change: &dyn Fn(&mut DatasetManifest), words: &str| {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = DatasetManifest::from_bytes(&manifest.to_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&|m| m.name.clear(), "printable");
    refused(&|m| m.shape = vec![8, 8], "[8, 8]");
    refused(&|m| m.x = Features::U8 { mean: Decimal::ZERO, std: Decimal::ZERO }, "not more than 0");
    refused(&|m| m.y = Targets::Class { classes: 1 }, "classes");
    refused(&|m| m.splits.clear(), "splits");
    refused(&|m| m.splits.push(m.splits[0].clone()), "twice");
    refused(&|m| m.splits[0].samples = 3, "hold 2 samples and it says 3");
    refused(&|m| m.splits[0].shards[0].bytes = 100, "100 bytes are not 128");
    refused(&|m| m.splits[0].shards[0].samples = u64::MAX, "samples are not 1 to");
    let mut spaced = good.to_bytes();
    spaced.push(b' ');
    assert!(DatasetManifest::from_bytes(&spaced).unwrap_err().to_string().contains("another encoding"));
    assert!(good.split("test").unwrap_err().to_string().contains("it has train"));
}

#[test]
fn a_dataset_that_does_not_fit_the_model_is_refused() {
    let resolve = |_: &str| Some(Hash::default());
    let mut spec = JobSpec::from_toml(include_str!("../../../examples/mnist.toml"), &resolve).unwrap();
    spec.data.validate = "train".into();
    let mut manifest = manifest();
    assert!(spec.check_with(&manifest).unwrap_err().to_string().contains("set input = [1, 8, 8]"));
    manifest.shape = vec![1, 28, 28];
    assert!(spec.check_with(&manifest).unwrap_err().to_string().contains("puts out [10]"));
    manifest.y = Targets::Class { classes: 10 };
    spec.check_with(&manifest).unwrap();
    manifest.y = Targets::Values { shape: vec![10] };
    assert!(spec.check_with(&manifest).unwrap_err().to_string().contains("needs classes"));
    spec.data.validate = "test".into();
    assert!(spec.check_with(&manifest).unwrap_err().to_string().contains("no split 'test'"));
}
