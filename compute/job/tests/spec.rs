//! Specs as borrowers write them: round trips, and a precise refusal for each way of being wrong.

use deepmarket_job::{JobSpec, SpecError, SpecProblem};
use deepmarket_types::Hash;

const DEMO: &str = include_str!("../../../examples/mnist.toml");

fn resolve(name: &str) -> Option<Hash> {
    (name == "mnist").then(|| Hash::of(b"mnist"))
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
    for toml in [DEMO, include_str!("../../../examples/mnist-local.toml"), include_str!("../../../examples/mlp.toml")] {
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
    refused("conv2d = { out = 16", "conv3d = { out = 16", Unknown, "conv3d", "did you mean 'conv2d'?");
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
    refused("input = [1, 28, 28]", "input = [784]", Shape, "{ conv2d = { out = 16", "[784] comes in, and conv2d takes");
    refused("input = [1, 28, 28]", "input = [28, 28]", Shape, "input =", "2 dimensions");
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
    let many = "{ relu = {} }, ".repeat(70);
    refused("{ flatten = {} }", &format!("{many}{{ flatten = {{}} }}"), SpecProblem::BadValue, "layers = [", "use 1 to 64");
}

#[test]
fn what_is_not_in_this_release_says_so() {
    use SpecProblem::NotInRelease;
    refused("kind = \"train\"", "kind = \"predict\"", NotInRelease, "predict", "only kind = \"train\"");
    refused("mode = \"sync\"", "mode = \"async\"", NotInRelease, "async", "not in this release");
    refused("cores = 1", "cores = 1\ngpus = 1", NotInRelease, "gpus", "GPUs");
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
  { max_pool2d = { kernel = 3, stride = 2, padding = 1 } }, "tanh", "sigmoid", { dropout = { rate = 0.25 } }, "flatten",
  { layer_norm = {} }, { linear = { out = 10 } }, "softmax",
]
[training]
loss = "mse"
optimizer = { sgd = { lr = 0.05, momentum = 0.9, weight_decay = 1e-4, nesterov = true } }
schedule = { step = { every_epochs = 2, factor = 0.5, warmup_steps = 10 } }
batch = 32
epochs = 4
seed = 9
mode = { local = { steps = 16 } }
[recovery]
checkpoint_rounds = 5
"#;
const GOLDEN_HASH: &str = "blake3:2bdc171eecb853bc8d2700007f2c7bdfc719a57db81c1ba456ab47d6d5ba8ef2";
