//! Any valid spec survives its bytes and its TOML; no bytes and no text make the reader panic.

use deepmarket_job::{
    Budget, Data, DatasetManifest, Decimal, Features, JobSpec, Kind, Layer, LearningRate, Loss, Mode, Model, Name, Named,
    Optimizer, Outer, Positions, Recovery, Shard, Split, Targets, Training, Updates, Workers,
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

fn sequence_layer() -> impl Strategy<Value = Layer> {
    let recurrent = (1_u32..20, any::<bool>());
    prop_oneof![
        (1_u32..5, 1_u32..4, 1_u32..3).prop_map(|(out, kernel, stride)| Layer::Conv1d {
            out: out * 4,
            kernel,
            stride,
            padding: kernel - 1
        }),
        recurrent.prop_map(|(hidden, lstm)| match lstm {
            true => Layer::Lstm { hidden: hidden * 4, sequence: true },
            false => Layer::Gru { hidden: hidden * 4, sequence: true },
        }),
        any::<bool>().prop_map(|causal| Layer::Attention { heads: 2, causal }),
        (1_u32..50, any::<bool>(), rate()).prop_map(|(feed_forward, causal, dropout)| Layer::TransformerEncoder {
            heads: 4,
            feed_forward,
            causal,
            dropout
        }),
        prop_oneof![Just(Positions::Learned), Just(Positions::Sinusoidal)].prop_map(|kind| Layer::PositionEmbedding { kind }),
        positive().prop_map(|epsilon| Layer::LayerNorm { epsilon }),
        Just(Layer::Relu),
    ]
}

fn end_of_sequence() -> impl Strategy<Value = Layer> {
    let recurrent = (1_u32..20, any::<bool>());
    prop_oneof![
        prop_oneof![Just(Layer::GlobalAvgPool), Just(Layer::GlobalMaxPool), Just(Layer::Last), Just(Layer::Flatten)],
        recurrent.prop_map(|(hidden, lstm)| match lstm {
            true => Layer::Lstm { hidden, sequence: false },
            false => Layer::Gru { hidden, sequence: false },
        }),
    ]
}

/// A stack over images, or over tokens; with a way around one of its layers where that fits.
fn model() -> impl Strategy<Value = Model> {
    let images = (proptest::collection::vec(image_layer(), 0..6), proptest::collection::vec(flat_layer(), 0..6));
    let sequences = (proptest::collection::vec(sequence_layer(), 0..6), end_of_sequence());
    let around = (any::<bool>(), "[a-z\"]{1,8}", any::<Option<[u8; 32]>>());
    let stack = prop_oneof![
        images.prop_map(|(images, flats)| {
            let layers = [images, vec![Layer::Flatten], flats, vec![Layer::Linear { out: 3 }]].concat();
            Model::stack(vec![1, 8, 8], layers)
        }),
        sequences.prop_map(|(sequences, end)| {
            let first = vec![Layer::Embedding { vocabulary: 7, out: 8 }];
            Model::stack(vec![9], [first, sequences, vec![end, Layer::Linear { out: 3 }]].concat())
        }),
    ];
    (stack, around).prop_map(|(mut model, (is_around, name, parameters))| {
        model.parameters = parameters.map(Hash);
        if is_around && name != deepmarket_job::INPUT {
            // Around a ReLU behind the last layer: shapes are equal.
            model.names.push(Named { name: name.clone(), layer: model.layers.len() as u32 - 1 });
            model.layers.extend([
                Layer::Relu,
                Layer::Add { with: vec![name.clone()] },
                Layer::Concat { with: vec![name.clone()] },
            ]);
            model.layers.extend([Layer::Reshape { to: vec![3, 2] }, Layer::Linear { out: 3 }, Layer::Flatten]);
        }
        model
    })
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

fn mode() -> impl Strategy<Value = Mode> {
    let nesterov = (positive(), rate()).prop_map(|(lr, momentum)| Outer::Nesterov { lr, momentum });
    let outer = prop_oneof![Just(Outer::Average), nesterov];
    prop_oneof![
        Just(Mode::Sync),
        (1_u32..1000, outer).prop_map(|(steps, outer)| Mode::Local { steps, outer }),
        (1_u32..=16).prop_map(|staleness| Mode::Async { staleness }),
    ]
}

prop_compose! {
    fn training()(
        optimizer in optimizer(), schedule in schedule(), batch in 1_u32..64, epochs in 1_u32..100, seed: u64,
        mode in mode(), updates in prop_oneof![Just(Updates::F32), Just(Updates::Bf16), Just(Updates::Int8)],
    ) -> Training {
        Training { loss: Loss::Mse, optimizer, schedule, batch, epochs, seed, mode, updates }
    }
}

prop_compose! {
    fn spec()(
        name in "[ -~äß→\"\\\\]{1,60}", min in 1_u32..8, more in 0_u32..8, cores in 1_u32..64, disk_mib in 0_u64..100_000, share_machine: bool,
        micro in 1_u64..u64::MAX, slots in proptest::sample::subsequence(vec![0_u8, 1, 2, 3], 0..=4), manifest: [u8; 32],
        kind in prop_oneof![Just(Kind::Train), Just(Kind::Evaluate), Just(Kind::Predict)], model in model(),
        training in training(), checkpoint_rounds: u32, restarts in 0_u32..=1000, audit_percent in 0_u8..=100,
    ) -> JobSpec {
        JobSpec {
            name,
            kind: if model.parameters.is_none() { Kind::Train } else { kind },
            workers: Workers { min, max: min + more, cores, gpus: 0, ram_mib: 4096, disk_mib, share_machine },
            budget: Budget { max: Credits::from_micro(micro), slots, audit_percent },
            data: Data { manifest: Hash(manifest), train: "train".into(), validate: "test".into() },
            model,
            training,
            recovery: Recovery { checkpoint_rounds, restarts },
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
    refused(&|m| m.shape = vec![1, 1, 8, 8], "[1, 1, 8, 8]");
    refused(&|m| m.x = Features::Tokens { vocabulary: 9 }, "tokens are of shape [length]");
    refused(&|m| m.y = Targets::Tokens { vocabulary: 1 }, "y.vocabulary");
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
    let resolve = |_: Name| Some(Hash::default());
    let text = include_str!("../../../examples/mnist.toml");
    let mut spec = JobSpec::from_toml(text, &resolve).unwrap();
    spec.data.validate = "train".into();
    let mut manifest = manifest();
    let unfit = JobSpec::from_toml_for(text, &resolve, &manifest).unwrap_err();
    assert_eq!(unfit.line, text.lines().position(|line| line.starts_with("input =")).map(|index| index + 1));
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

#[test]
fn tokens_need_an_embedding_that_knows_them_all_and_a_token_for_each_position() {
    let resolve = |_: Name| Some(Hash::default());
    let mut spec = JobSpec::from_toml(include_str!("../../../examples/char-transformer.toml"), &resolve).unwrap();
    let length = spec.model.input[0];
    let mut manifest = manifest();
    manifest.shape = vec![length];
    manifest.splits = ["train", "test"].map(|name| Split { name: name.into(), ..manifest.splits[0].clone() }).to_vec();
    (manifest.x, manifest.y) = (Features::Tokens { vocabulary: 256 }, Targets::Tokens { vocabulary: 256 });
    assert_eq!(spec.check_with(&manifest).unwrap().output, [length, 256]);
    let refused = |spec: &JobSpec, manifest: &DatasetManifest, words: &str| {
        let error = spec.check_with(manifest).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let other = |x, y| DatasetManifest { x, y, ..manifest.clone() };
    let tokens = |vocabulary| Features::Tokens { vocabulary };
    refused(&spec, &other(tokens(300), manifest.y.clone()), "has 300 tokens, and this layer knows 256; set vocabulary = 300");
    refused(&spec, &other(Features::F32, manifest.y.clone()), "an embedding takes tokens");
    refused(&spec, &other(manifest.x, Targets::Tokens { vocabulary: 9 }), "end with { linear = { out = 9 } }");
    refused(&spec, &other(manifest.x, Targets::Class { classes: 256 }), "needs [256]");
    spec.training.loss = Loss::Mse;
    refused(&spec, &manifest, "has tokens; use loss = \"cross_entropy\"");
    spec.model.layers.insert(0, Layer::Reshape { to: vec![1, length] });
    spec.model.layers[1] = Layer::Linear { out: 64 };
    refused(&spec, &manifest, "begin with { embedding = { vocabulary = 256");
}
