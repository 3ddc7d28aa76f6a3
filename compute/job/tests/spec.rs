//! Specs as borrowers write them: round trips, and a precise refusal for each way of being wrong.

use deepmarket_job::{JobSpec, Kind, Layer, Name, SpecError, SpecProblem};
use deepmarket_types::{Hash, JobId};

const DEMO: &str = include_str!("../../../examples/mnist.toml");

fn resolve(name: Name) -> Option<Hash> {
    match name {
        Name::Dataset("mnist" | "text" | "regression") => Some(Hash::of(b"mnist")),
        Name::Job(JobId(12)) => Some(Hash::of(b"model")),
        _ => None,
    }
}

fn read(toml: &str) -> Result<JobSpec, SpecError> {
    JobSpec::from_toml(toml, &resolve)
}

/// The demo's spec with some text replaced, which must be there.
fn with(old: &str, new: &str) -> String {
    assert!(DEMO.contains(old), "the example has no {old}");
    DEMO.replacen(old, new, 1)
}

/// Reads the changed demo spec: it must be refused with this problem, on the line of `at`, and say these words.
fn refused(old: &str, new: &str, problem: SpecProblem, at: &str, words: &str) {
    let toml = with(old, new);
    let error = read(&toml).expect_err("the spec is wrong");
    let line = toml.lines().position(|line| line.contains(at)).map(|index| index + 1);
    let text = error.to_string();
    assert_eq!(error.problem, problem, "{text}");
    assert_eq!(error.line, line, "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!error.hint.is_empty());
}

#[test]
fn the_examples_are_valid_and_fit_their_memory() {
    for toml in [
        DEMO,
        include_str!("../../../examples/mnist-local.toml"),
        include_str!("../../../examples/mlp.toml"),
        include_str!("../../../examples/lenet5.toml"),
        include_str!("../../../examples/resnet-small.toml"),
        include_str!("../../../examples/lstm.toml"),
        include_str!("../../../examples/regression.toml"),
        include_str!("../../../examples/char-transformer.toml"),
        include_str!("../../../examples/evaluate.toml"),
    ] {
        let spec = read(toml).unwrap();
        let size = spec.check().unwrap();
        assert!(size.ram_mib <= spec.workers.ram_mib);
        assert_eq!(JobSpec::from_bytes(&spec.to_bytes()).unwrap(), spec);
        assert_eq!(read(&spec.to_toml()).unwrap(), spec);
    }
}

#[test]
fn the_demos_size_is_what_a_hand_counts() {
    let size = read(DEMO).unwrap().check().unwrap();
    assert_eq!(size.parameters, (9 + 1) * 16 + (9 * 16 + 1) * 32 + (32 * 7 * 7 + 1) * 10);
    assert_eq!(size.multiply_adds, 9 * 16 * 784 + 9 * 16 * 32 * 196 + 1568 * 10);
    assert_eq!(size.activations, 784 + 2 * 16 * 784 + 16 * 196 + 2 * 32 * 196 + 2 * 1568 + 10);
    assert_eq!((size.buffers, size.output, size.depth), (0, vec![10], 8));
}

#[test]
fn the_bytes_of_a_known_spec_never_change() {
    // A format change needs a new version in front, and this hash stays for the old one.
    let spec = read(GOLDEN).unwrap();
    assert_eq!(Hash::of(&spec.to_bytes()).to_string(), GOLDEN_HASH);
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    refused("epochs = 5", "epochs = = 5", SpecProblem::Syntax, "epochs = = 5", "TOML");
}

#[test]
fn unknown_names_are_refused_with_what_may_be_meant() {
    use SpecProblem::Unknown;
    refused("epochs = 5", "epoch = 5", Unknown, "epoch = 5", "did you mean 'epochs'?");
    refused("{ relu = {} }", "{ rellu = {} }", Unknown, "rellu", "did you mean 'relu'?");
    refused("conv2d = { out = 16", "konv2d = { out = 16", Unknown, "konv2d", "did you mean 'conv2d'?");
    refused("kernel = 3, padding = 1", "kernel = 3, pad = 1", Unknown, "pad = 1", "'pad'");
    refused("adam", "adagrad", Unknown, "adagrad", "sgd, adam, adamw");
    refused("[workers]", "[worker]", Unknown, "[worker]", "did you mean 'workers'?");
    refused("\"cross_entropy\"", "\"hinge\"", Unknown, "hinge", "cross_entropy, mse");
    refused("cosine", "exponential", Unknown, "exponential", "constant, step, cosine");
}

#[test]
fn missing_keys_are_refused_with_an_example() {
    use SpecProblem::Missing;
    refused("ram_mib = 1024", "", Missing, "[workers]", "for example ram_mib = 1024");
    refused("out = 16, kernel = 3, padding = 1", "out = 16", Missing, "out = 16 }", "for example kernel = 3");
    refused("{ linear = { out = 10 } }", "\"linear\"", Missing, "\"linear\"", "linear needs options");
    refused("{ adam = { lr = 4e-3 } }", "\"adam\"", Missing, "\"adam\"", "needs a learning rate");
    let error = read("").unwrap_err();
    assert!(error.to_string().contains("'name' is missing"), "{error}");
}

#[test]
fn values_of_another_type_are_refused() {
    use SpecProblem::WrongType;
    refused("epochs = 5", "epochs = \"five\"", WrongType, "five", "a whole number is expected, and this is a text");
    refused("epochs = 5", "epochs = 5.5", WrongType, "5.5", "a whole number");
    refused("name = \"mnist-cnn\"", "name = 7", WrongType, "name = 7", "a text in quotes");
    refused("input = [1, 28, 28]", "input = 784", WrongType, "784", "a list");
    refused("{ flatten = {} }", "{ flatten = {}, relu = {} }", WrongType, "flatten = {}, relu", "one key");
}

#[test]
fn numbers_that_can_not_be_meant_are_refused() {
    use SpecProblem::{BadValue, TooLarge};
    for lr in ["nan", "inf", "1e-12", "0.0", "-1e-3", "1e7"] {
        refused("lr = 4e-3", &format!("lr = {lr}"), BadValue, "lr =", "training.optimizer.adam.lr");
    }
    refused("epochs = 5", "epochs = -5", BadValue, "-5", "not negative");
    refused("epochs = 5", "epochs = 0", BadValue, "epochs = 0", "use 1 to");
    refused("batch = 192", "batch = 99999999999", TooLarge, "99999999999", "smaller");
    refused("max = 3", "max = 1", BadValue, "max = 1", "use 2 to");
    refused("max_credits = 20", "max_credits = 0.0000001", BadValue, "max_credits", "six decimals");
    refused("max_credits = 20", "max_credits = 0", BadValue, "max_credits", "pays nobody");
    refused("slots = []", "slots = [\"01-07\"]", BadValue, "01-07", "00-06");
    refused("slots = []", "slots = [\"00-06\", \"00-06\"]", BadValue, "slots", "at most once");
    refused("name = \"mnist-cnn\"", "name = \"\"", BadValue, "name =", "printable");
}

#[test]
fn a_number_with_underscores_is_read_as_toml_says() {
    assert_eq!(read(&with("lr = 4e-3", "lr = 0.004_0")).unwrap(), read(DEMO).unwrap());
}

#[test]
fn layers_that_do_not_fit_are_refused_with_what_came_in() {
    use SpecProblem::Shape;
    refused("{ flatten = {} }, ", "", Shape, "linear", "[32, 7, 7] comes in, and linear takes [features]");
    refused("{ flatten = {} }", "{ lstm = { hidden = 8 } }", Shape, "lstm", "lstm takes [length, features]");
    refused("{ flatten = {} }", "{ reshape = { to = [32, 48] } }", Shape, "reshape", "1568 values, and [32, 48] is 1536");
    refused("{ flatten = {} }", "{ embedding = { vocabulary = 9, out = 3 } }", Shape, "embedding", "make model.input [length]");
    let around = "{ reshape = { to = [49, 32] } }, { batch_norm = {} }";
    refused("{ flatten = {} }", around, Shape, "batch_norm", "use { layer_norm = {} }");
    refused("input = [1, 28, 28]", "input = [784]", Shape, "{ conv2d = { out = 16", "[784] comes in, and conv2d takes");
    refused("input = [1, 28, 28]", "input = [1, 1, 28, 28]", Shape, "input =", "4 dimensions");
    refused("{ max_pool2d = { kernel = 2 } }", "{ max_pool2d = { kernel = 29 } }", Shape, "kernel = 29", "larger than the 28");
    refused(
        "{ linear = { out = 10 } }",
        "{ linear = { out = 10 } }, { softmax = {} }",
        Shape,
        "softmax",
        "applies softmax itself",
    );
    refused("{ flatten = {} }, { linear = { out = 10 } }", "{ relu = {} }", Shape, "  { relu", "needs [classes]");
}

#[test]
fn a_spec_that_asks_for_ten_terabytes_is_refused_before_anything_is_allocated() {
    use SpecProblem::TooLarge;
    refused("ram_mib = 1024", "ram_mib = 10_485_760", TooLarge, "ram_mib", "use 1 to");
    refused(
        "{ linear = { out = 10 } }",
        "{ linear = { out = 65536 } }, { linear = { out = 65536 } }",
        TooLarge,
        "65536",
        "parameters",
    );
    refused("input = [1, 28, 28]", "input = [1, 65536, 65536]", TooLarge, "flatten", "features");
    refused("batch = 192", "batch = 65536", TooLarge, "ram_mib", "a worker needs");
    refused("ram_mib = 1024", "ram_mib = 64", TooLarge, "ram_mib = 64", "set ram_mib =");
    let deep = "{ conv2d = { out = 65536, kernel = 65535, padding = 65534 } }, ".repeat(50);
    refused("{ flatten = {} }", &format!("{deep}{{ flatten = {{}} }}"), TooLarge, "65535", "out of range");
    let many = "{ relu = {} }, ".repeat(260);
    refused("{ flatten = {} }", &format!("{many}{{ flatten = {{}} }}"), SpecProblem::BadValue, "layers = [", "use 1 to 256");
}

#[test]
fn what_is_not_in_this_release_says_so() {
    refused("cores = 1", "cores = 1\ngpus = 1", SpecProblem::NotInRelease, "gpus", "GPUs");
}

#[test]
fn names_lead_around_layers_and_a_wrong_one_is_refused() {
    use SpecProblem::{BadValue, Shape};
    let pool = "{ max_pool2d = { kernel = 2 } },\n  { conv2d = { out = 32";
    let named = "{ max_pool2d = { kernel = 2 }, name = \"a\" },\n  { conv2d = { out = 32";
    let with = |layers: &str| with(pool, named).replacen("{ flatten = {} }", layers, 1);
    let spec = read(&with("{ take = { from = \"a\" } }, { flatten = {} }")).unwrap_err();
    assert!(spec.to_string().contains("what max_pool2d puts out has no name"), "{spec}");
    for (layers, problem, words) in [
        ("{ flatten = {} }", BadValue, "no later layer takes 'a'"),
        ("{ add = { with = [\"b\"] } }", BadValue, "no later layer takes 'a'"),
        ("{ add = { with = [\"a\", \"b\"] } }", Shape, "no earlier layer is named 'b'; name one, { relu = {}, name = \"a\" }"),
        ("{ add = { with = [\"a\"] } }", Shape, "[32, 7, 7] comes in and 'a' is [16, 14, 14]: add needs equal shapes"),
        ("{ concat = { with = [\"a\"] } }", Shape, "differ in features (or channels) only"),
        ("{ add = { with = [] } }", BadValue, "no later layer takes 'a'"),
    ] {
        let error = read(&with(layers)).unwrap_err();
        assert!(error.problem == problem && error.to_string().contains(words), "{error}");
    }
    let good = "{ max_pool2d = { kernel = 1 }, name = \"b\" }, { take = { from = \"a\" } }, { max_pool2d = { kernel = 2 } }, \
                { concat = { with = [\"b\", \"b\"] } }, { flatten = {} }";
    let spec = read(&with(good)).unwrap();
    assert!(spec.model.layers.contains(&Layer::Concat { with: vec!["b".into(), "b".into()] }));
    assert_eq!(spec.check().unwrap().parameters, (9 + 1) * 16 + (9 * 16 + 1) * 32 + ((16 + 64) * 7 * 7 + 1) * 10);
    assert_eq!(read(&spec.to_toml()).unwrap(), spec);
}

#[test]
fn presets_are_read_as_their_layers() {
    let read_preset = |input: &str, preset: &str| {
        let (before, after) = DEMO.split_once("input = [1, 28, 28]").unwrap();
        let (_, after) = after.split_once("[training]").unwrap();
        read(&format!("{before}input = {input}\npreset = {preset}\n[training]{after}"))
    };
    let parameters = |input, preset| {
        let spec = read_preset(input, preset).unwrap();
        assert_eq!(read(&spec.to_toml()).unwrap(), spec);
        spec.check().unwrap().parameters
    };
    assert_eq!(parameters("[1, 28, 28]", "\"mlp\""), 785 * 128 + 129 * 10);
    assert_eq!(parameters("[20]", "{ mlp = { hidden = [8, 4], out = 2 } }"), 21 * 8 + 9 * 4 + 5 * 2);
    // What is told of LeNet-5 with complete connections, but for pooling without weights: 61,706.
    assert_eq!(parameters("[1, 28, 28]", "\"lenet5\""), 61_706);
    let blocks = |w: u64| 2 * 9 * w * w + 4 * w; // two convolutions and norms
    let conv = |a: u64, b: u64, k: u64| k * k * a * b + b;
    let expected = conv(1, 8, 3)
        + 16
        + blocks(8)
        + 2 * 8
        + conv(8, 16, 3)
        + conv(16, 16, 3)
        + conv(8, 16, 1)
        + 3 * 32
        + conv(16, 32, 3)
        + conv(32, 32, 3)
        + conv(16, 32, 1)
        + 3 * 64
        + 33 * 10;
    assert_eq!(parameters("[1, 28, 28]", "{ resnet-small = { width = 8 } }"), expected);
    let block = 4 * 64 * 64 + 4 * 64 + 2 * 64 * 256 + 256 + 64 + 4 * 64;
    let text = read_preset("[32]", "\"char-transformer\"").unwrap();
    assert_eq!(text.check().unwrap().parameters, 256 * 64 + 32 * 64 + 2 * block + 128 + 65 * 256);
    assert_eq!(text.check().unwrap().output, [32, 256]);
    let error = read_preset("[1, 28, 28]", "\"vgg19\"").unwrap_err().to_string();
    assert!(error.contains("known: mlp, lenet5, resnet-small, char-transformer"), "{error}");
    let both = with("input = [1, 28, 28]", "input = [1, 28, 28]\npreset = \"lenet5\"");
    assert!(read(&both).unwrap_err().to_string().contains("remove one of the two"));
}

#[test]
fn a_job_may_start_from_an_earlier_jobs_model_and_one_that_does_not_train_must() {
    use SpecProblem::{BadValue, Missing, UnknownModel};
    let given = |text: &str| with("[model]", &format!("[model]\nparameters = {text}"));
    assert_eq!(read(&given("\"job-12\"")).unwrap().model.parameters, Some(Hash::of(b"model")));
    let hash = format!("\"{}\"", Hash::of(b"other"));
    let spec = read(&given(&hash)).unwrap();
    assert_eq!(spec.model.parameters, Some(Hash::of(b"other")));
    assert_eq!(read(&spec.to_toml()).unwrap(), spec);
    for (text, problem, words) in [
        ("\"job-13\"", UnknownModel, "job-13 has no result here"),
        ("\"job-x\"", BadValue, "no job and no hash"),
        ("\"mnist\"", BadValue, "no job and no hash"),
        ("\"blake3:12\"", BadValue, "64 hex digits"),
    ] {
        let error = read(&given(text)).unwrap_err();
        assert!(error.problem == problem && error.line.is_some() && error.to_string().contains(words), "{error}");
    }
    for kind in ["predict", "evaluate"] {
        let kind = format!("kind = \"{kind}\"");
        refused("kind = \"train\"", &kind, Missing, "[model]", "add parameters = \"job-12\"");
    }
}

#[test]
fn a_job_that_does_not_train_needs_no_training_section_beyond_its_loss() {
    let (before, _) = DEMO.split_once("[training]").unwrap();
    let job = |kind: &str, training: &str| {
        let text = before.replace("\"train\"\n\n[w", &format!("\"{kind}\"\n\n[w"));
        read(&format!("{}{training}", text.replace("[model]", "[model]\nparameters = \"job-12\"")))
    };
    let predict = job("predict", "").unwrap();
    assert_eq!((predict.kind, predict.training.epochs), (Kind::Predict, 1));
    let evaluate = job("evaluate", "[training]\nloss = \"cross_entropy\"\n").unwrap();
    assert_eq!(evaluate.kind, Kind::Evaluate);
    for spec in [predict, evaluate] {
        assert_eq!(read(&spec.to_toml()).unwrap(), spec);
        assert_eq!(JobSpec::from_bytes(&spec.to_bytes()).unwrap(), spec);
    }
    assert!(job("evaluate", "").unwrap_err().to_string().contains("add a section [training] with loss"));
    assert!(job("evaluate", "[training]\nbatch = 3\n").unwrap_err().to_string().contains("'loss' is missing"));
    assert!(job("train", "[training]\nloss = \"mse\"\n").unwrap_err().to_string().contains("'optimizer' is missing"));
}

#[test]
fn how_ranks_work_together_is_read_and_checked() {
    use SpecProblem::{BadValue, Missing, TooLarge, Unknown};
    let modes = [
        "\"async\"",
        "{ async = { staleness = 4 } }",
        "{ local = { steps = 16 } }",
        "{ local = { steps = 16, outer = \"average\" } }",
        "{ local = { steps = 16, outer = \"nesterov\" } }",
        "{ local = { steps = 16, outer = { nesterov = { lr = 0.5, momentum = 0.8 } } } }",
    ];
    for mode in modes {
        for updates in ["f32", "bf16", "int8"] {
            let toml = with("mode = \"sync\"", &format!("mode = {mode}\nupdates = \"{updates}\""));
            let spec = read(&toml).unwrap();
            assert_eq!(read(&spec.to_toml()).unwrap(), spec, "{}", spec.to_toml());
        }
    }
    let nesterov = |options: &str| format!("mode = {{ local = {{ steps = 8, outer = {{ nesterov = {{ {options} }} }} }} }}");
    let mode = "mode = \"sync\"";
    refused(mode, &nesterov("lr = 0"), BadValue, "nesterov", "nesterov.lr: 0 is out of range");
    refused(mode, &nesterov("momentum = 1"), BadValue, "nesterov", "nesterov.momentum: 1 is out of range");
    refused(mode, "mode = \"local\"", Missing, "local", "local needs its steps");
    refused(mode, "mode = { async = { staleness = 0 } }", BadValue, "staleness", "use 1 to 16");
    refused(mode, "mode = { async = { staleness = 17 } }", TooLarge, "staleness", "use 1 to 16");
    refused(mode, "updates = \"int4\"", Unknown, "int4", "f32, bf16, int8");
    refused("checkpoint_rounds = 100", "restarts = 1001", TooLarge, "restarts", "use 0 to 1000");
}

#[test]
fn an_unknown_dataset_is_refused() {
    refused("manifest = \"mnist\"", "manifest = \"mnits\"", SpecProblem::UnknownDataset, "mnits", "data add");
    refused("manifest = \"mnist\"", "manifest = \"blake3:12\"", SpecProblem::BadValue, "blake3:12", "64 hex digits");
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    let bytes = read(DEMO).unwrap().to_bytes();
    let problem = |bytes: &[u8]| JobSpec::from_bytes(bytes).unwrap_err().problem;
    assert_eq!(problem(&[]), SpecProblem::NotCanonical);
    assert_eq!(problem(&bytes[..bytes.len() - 1]), SpecProblem::NotCanonical);
    assert_eq!(problem(&[&bytes[..], &[0]].concat()), SpecProblem::NotCanonical);
    assert_eq!(problem(&[&[9], &bytes[1..]].concat()), SpecProblem::NotCanonical);
    assert_eq!(problem(&vec![1; 70_000]), SpecProblem::NotCanonical);
    let mut spec = read(DEMO).unwrap();
    spec.training.batch = 0;
    assert_eq!(problem(&spec.to_bytes()), SpecProblem::BadValue);
}

const GOLDEN: &str = r#"
name = "golden"
[workers]
min = 2
max = 3
ram_mib = 2048
[budget]
max_credits = 12.5
slots = ["18-24", "00-06"]
[data]
manifest = "blake3:0101010101010101010101010101010101010101010101010101010101010101"
[model]
input = [3, 16, 16]
layers = [
  { conv2d = { out = 8, kernel = 3, padding = 1 } }, { batch_norm = {} }, "gelu", { avg_pool2d = { kernel = 2 } },
  { max_pool2d = { kernel = 3, stride = 2, padding = 1 }, name = "a" }, "tanh", "sigmoid", { dropout = { rate = 0.25 } },
  { add = { with = ["a"] }, name = "b" }, { take = { from = "a" } }, { concat = { with = ["b"] } }, { reshape = { to = [16, 16] } },
  { conv1d = { out = 8, kernel = 3, padding = 1 } }, { position_embedding = {} }, { position_embedding = { kind = "sinusoidal" } },
  { attention = { heads = 2 } }, { transformer_encoder = { heads = 4, feed_forward = 16, causal = true, dropout = 0.1 } },
  { lstm = { hidden = 6 } }, { gru = { hidden = 5 } }, { layer_norm = {} }, { linear = { out = 10 } }, "last", "softmax",
]
parameters = "blake3:0202020202020202020202020202020202020202020202020202020202020202"
[training]
loss = "mse"
optimizer = { sgd = { lr = 0.05, momentum = 0.9, weight_decay = 1e-4, nesterov = true } }
schedule = { step = { every_epochs = 2, factor = 0.5, warmup_steps = 10 } }
batch = 32
epochs = 4
seed = 9
mode = { local = { steps = 16, outer = "nesterov" } }
updates = "int8"
[recovery]
checkpoint_rounds = 5
"#;
const GOLDEN_HASH: &str = "blake3:d99656fe1fe3356adccc094c11117513727a7a2438675dd69eaac191f66a636c";
