//! Hostile input, from borrowers, datasets and whoever holds the other end of a trainer's pipe: specs, manifests, files, shards,
//! models, messages. Each ends in a typed error, exactly this one; the trainer's process goes on (or ends with a status of its
//! own where it can't know what comes next), within the memory that was lent.

mod common;

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{ChildStdin, Command, Stdio},
};

use common::Process;
use deepmarket_dataset::{Format, Input, Options, import, shard_bytes};
use deepmarket_job::{
    DatasetManifest, JobSpec,
    protocol::{EXIT_OUT_OF_MEMORY, Part, Reply, Request, write_frame},
    tensor_file,
};
use deepmarket_types::Hash;

/// What is lent to each trainer here.
const RAM_MIB: u64 = 512;

/// What somebody sends.
enum Sent {
    /// A job file in which these words were replaced.
    Toml(&'static str, String),
    /// A job as bytes.
    Spec(Vec<u8>),
    /// A manifest.
    Manifest(Vec<u8>),
    /// Files that somebody is to import.
    Files(Format, Vec<(&'static str, Vec<u8>)>),
    /// A request to a trainer that has begun.
    Request(Request),
    /// A job and a dataset for a trainer to begin with.
    Start(Vec<u8>, Vec<u8>),
    /// Anything on a trainer's pipe.
    Raw(Vec<u8>),
    /// A frame that fills the memory, as long as the trainer reads it.
    Flood,
}

use Sent::{Files, Flood, Manifest, Raw, Spec, Start, Toml};

const TOML: &str = r#"
name = "hostile"
[workers]
ram_mib = 512
[budget]
max_credits = 1
[data]
manifest = "hostile"
[model]
input = [1, 2, 2]
layers = [ { conv2d = { out = 2, kernel = 1 } }, { batch_norm = {} }, "flatten", { linear = { out = 3 } } ]
[training]
loss = "cross_entropy"
optimizer = { adam = { lr = 1e-3 } }
batch = 2
epochs = 2
"#;

/// Two shards of two samples to train on, one to evaluate on.
fn manifest() -> DatasetManifest {
    let shard = good_shard();
    let (hash, bytes) = (Hash::of(&shard), shard.len());
    let shard = format!(r#"{{"hash":"{hash}","bytes":{bytes},"samples":2}}"#);
    let text = format!(
        r#"{{"name":"hostile","shape":[1,2,2],"x":{{"u8":{{"mean":"0","std":"1"}}}},"y":{{"class":{{"classes":3}}}},"splits":[{{"name":"train","samples":4,"shards":[{shard},{shard}]}},{{"name":"test","samples":2,"shards":[{shard}]}}]}}"#
    );
    DatasetManifest::from_bytes(text.as_bytes()).expect("a valid manifest")
}

fn good_shard() -> Vec<u8> {
    shard_bytes(&[1, 2, 3, 4, 5, 6, 7, 8], &[0, 2], &[1, 2, 2])
}

fn spec() -> JobSpec {
    JobSpec::from_toml(TOML, &|_| Some(manifest().hash())).expect("a valid spec")
}

/// The manifest with some words replaced.
fn changed(from: &str, to: &str) -> Sent {
    let text = String::from_utf8(manifest().to_bytes()).expect("JSON");
    assert!(text.contains(from), "{from}");
    Manifest(text.replacen(from, to, 1).into_bytes())
}

fn toml(from: &'static str, to: impl Into<String>) -> Sent {
    assert!(TOML.contains(from), "{from}");
    Toml(from, to.into())
}

fn layers(layers: impl Into<String>) -> Sent {
    let all = TOML.lines().find(|line| line.starts_with("layers")).expect("there are layers");
    Toml(all, format!("layers = [ {} ]", layers.into()))
}

/// A safetensors file with any header.
fn tensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn shard(bytes: Vec<u8>) -> Sent {
    Sent::Request(Request::Shard { part: Part::Train, index: 0, bytes })
}

fn xy(x: &str, y: &str, data: usize) -> Sent {
    shard(tensors(&format!(r#"{{"x":{x},"y":{y}}}"#), &vec![0; data]))
}

fn frame(request: &Request) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, request).expect("memory");
    frame
}

fn packed(bytes: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..times).for_each(|_| encoder.write_all(bytes).expect("memory"));
    encoder.finish().expect("memory")
}

fn npy(shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// A PNG that says to have so many pixels, and ends there.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 6, 0, 0, 0]);
    let mut crc = u32::MAX;
    for byte in &header {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)));
    }
    [&b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"[..], &header, &(!crc).to_be_bytes(), b"\x00\x00\x00\x00IDAT"].concat()
}

/// What is sent, and the answer. `3007` and so on are codes of errors; `failed: …` is a trainer's reply, with a part of its words;
/// `ended: 2` the status of a trainer that ended.
fn cases() -> Vec<(&'static str, Sent, &'static str)> {
    let floats = |count: usize| vec![0_u8; 4 * count];
    let model = |name: &str, shape: &[u64], count: usize| tensor_file::of_tensor(name, shape, &floats(count));
    let request = Sent::Request;
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let mut flipped = frame(&Request::Round { round: 0 });
    flipped[4] ^= 0x40;
    let mut longer = frame(&Request::Evaluate);
    longer[0] += 9;
    let good = good_shard();
    let mut bit = good.clone();
    bit[9] ^= 1;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    vec![
        // Job files.
        ("a layer of four billion outputs", layers("\"flatten\", { linear = { out = 4294967295 } }"), "3007"),
        ("a layer whose size overflows 32 bits", layers("\"flatten\", { linear = { out = 4294967296 } }"), "3007"),
        (
            "more parameters than any machine has",
            layers("\"flatten\", { linear = { out = 65536 } }, { linear = { out = 65536 } }"),
            "3007",
        ),
        ("a kernel larger than its image", layers("{ conv2d = { out = 1, kernel = 9 } }"), "3006"),
        ("a stride of zero", layers("{ conv2d = { out = 1, kernel = 1, stride = 0 } }"), "3005"),
        ("a padding that makes the image huge", layers("{ conv2d = { out = 1, kernel = 1, padding = 4294967295 } }"), "3007"),
        ("a reshape to more values than there are", layers("{ reshape = { to = [65536, 65536, 65536] } }"), "3006"),
        (
            "a reshape whose product overflows 64 bits",
            layers("{ reshape = { to = [4294967295, 4294967295, 4294967295] } }"),
            "3007",
        ),
        ("a thousand layers", layers("\"relu\", ".repeat(1000)), "3005"),
        ("a layer that nobody knows", layers("{ shell = { command = \"rm -rf /\" } }"), "3002"),
        (
            "a layer that takes from one after it",
            layers("{ add = { with = [\"later\"] } }, { relu = {}, name = \"later\" }"),
            "3005",
        ),
        ("an input of no dimensions", toml("input = [1, 2, 2]", "input = []"), "3006"),
        ("an input of zero", toml("input = [1, 2, 2]", "input = [1, 0, 2]"), "3005"),
        ("a learning rate that is not a number", toml("lr = 1e-3", "lr = nan"), "3005"),
        ("an infinite learning rate", toml("lr = 1e-3", "lr = inf"), "3005"),
        ("a negative learning rate", toml("lr = 1e-3", "lr = -1e-3"), "3005"),
        ("a learning rate beyond all numbers", toml("lr = 1e-3", "lr = 1e999999999"), "3005"),
        ("a batch of nothing", toml("batch = 2", "batch = 0"), "3005"),
        ("a batch of four billion", toml("batch = 2", "batch = 4294967295"), "3007"),
        ("epochs without end", toml("epochs = 2", "epochs = 4294967295"), "3007"),
        ("no memory at all", toml("ram_mib = 512", "ram_mib = 0"), "3005"),
        ("all memory of the world", toml("ram_mib = 512", "ram_mib = 18446744073709551615"), "3007"),
        ("workers without number", toml("[workers]", "[workers]\nmin = 4294967295\nmax = 4294967295"), "3007"),
        ("a negative budget", toml("max_credits = 1", "max_credits = -1"), "3005"),
        ("a path for a dataset", toml("manifest = \"hostile\"", "manifest = \"blake3:../../etc/shadow\""), "3005"),
        ("a path for a split", toml("[data]", "[data]\ntrain = \"../../../etc/passwd\""), "3011"),
        ("a key that nobody knows", toml("[training]", "[training]\ncallback = \"http://evil\""), "3002"),
        ("a hundred thousand brackets", toml("input = [1, 2, 2]", format!("input = {}", nested(50_000))), "3009"),
        ("brackets within the limit of length", toml("input = [1, 2, 2]", format!("input = {}", nested(20_000))), "3001"),
        ("control characters in the name", toml("\"hostile\"\n[workers]", "\"a\\u0000b\"\n[workers]"), "3005"),
        // Jobs as bytes.
        ("a job of no bytes", Spec(Vec::new()), "3009"),
        ("a job of another version", Spec(vec![255; 40]), "3009"),
        ("a name of four billion bytes", Spec(vec![1, 255, 255, 255, 255, 0]), "3009"),
        ("a job with more behind it", Spec([spec().to_bytes(), vec![0]].concat()), "3009"),
        ("half a job", Spec(cut(spec().to_bytes(), 20)), "3009"),
        // Manifests.
        ("a manifest that is none", Manifest(b"{}".to_vec()), "3020"),
        ("a manifest with more behind it", Manifest([manifest().to_bytes(), b" ".to_vec()].concat()), "3020"),
        ("a manifest of nested brackets", Manifest(nested(100_000).into_bytes()), "3020"),
        ("a manifest of nine mebibytes", Manifest(vec![b' '; 9 << 20]), "3020"),
        ("a shape whose product overflows", changed("[1,2,2]", "[4294967295,4294967295,4294967295]"), "3021"),
        ("a shape of eight dimensions", changed("[1,2,2]", "[1,1,1,1,1,1,1,1]"), "3021"),
        ("a deviation of zero", changed(r#""std":"1""#, r#""std":"0""#), "3021"),
        ("a deviation that is not a number", changed(r#""std":"1""#, r#""std":"nan""#), "3020"),
        ("a dataset without end", changed(r#""samples":4"#, r#""samples":18446744073709551615"#), "3021"),
        ("a shard of more samples than bytes", changed(r#""samples":2"#, r#""samples":16777216"#), "3021"),
        ("a shard larger than any blob", changed(&format!(r#""bytes":{}"#, good.len()), r#""bytes":1099511627776"#), "3021"),
        ("a key that the manifest doesn't have", changed(r#""name":"hostile""#, r#""name":"hostile","path":"/etc""#), "3020"),
        // Files to import.
        ("a packed row without end", Files(Format::Csv, vec![("bomb.csv.gz", packed(&[b'a'; 1 << 20], 64))]), "3030"),
        ("packed images without end", Files(Format::Idx, bomb_of_images()), "3031"),
        ("an array of more samples than there are", Files(Format::Npy, arrays(npy("18446744073709551615, 2", &[0; 8]))), "3034"),
        ("an array whose sample is huge", Files(Format::Npy, arrays(npy("4, 18446744073709551615", &[0; 8]))), "3034"),
        ("an array without a header", Files(Format::Npy, arrays(b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec())), "3034"),
        ("an archive that is none", Files(Format::Npz, vec![("all.npz", vec![b'P', b'K', 5, 6, 255, 255, 255, 255])]), "3031"),
        ("tensors with a header of 16 EiB", Files(Format::Safetensors, vec![("all.safetensors", vec![255; 64])]), "3031"),
        ("an image of four billion pixels a side", Files(Format::Images, pictures(png(u32::MAX, u32::MAX))), "3031"),
        ("an image of a gibibyte in a hundred bytes", Files(Format::Images, pictures(png(16_384, 16_384))), "3031"),
        // A trainer's pipe: to begin with.
        ("a spec that is none", Start(vec![1, 2, 3], manifest().to_bytes()), "failed: TrainerCrashed, not canonical"),
        ("a manifest that is none", Start(spec().to_bytes(), vec![0; 100]), "failed: DataUnavailable, can't be read"),
        ("a spec for another dataset", Start(other_spec(), manifest().to_bytes()), "failed: TrainerCrashed, the model takes"),
        // Shards.
        ("a shard of nothing", shard(Vec::new()), "failed: DataUnavailable, header"),
        ("a header of 16 EiB", shard(vec![255; 100]), "failed: DataUnavailable, header"),
        (
            "a header longer than the file",
            shard([&200_u64.to_le_bytes()[..], b"{}"].concat()),
            "failed: DataUnavailable, shard 0",
        ),
        ("half a shard", shard(cut(good.clone(), 3)), "failed: DataUnavailable, shard 0"),
        ("a shard with more behind it", shard([good.clone(), vec![0; 9]].concat()), "failed: DataUnavailable, shard 0"),
        ("a shard with a flipped bit in its header", shard(bit), "failed: DataUnavailable, shard 0"),
        ("a header of nested brackets", shard(tensors(&nested(100_000), &[])), "failed: DataUnavailable, shard 0"),
        (
            "a shape whose product overflows",
            xy(r#"{"dtype":"U8","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}"#, Y, 2),
            "failed: DataUnavailable, shard 0",
        ),
        (
            "offsets before their beginning",
            xy(r#"{"dtype":"U8","shape":[2,1,2,2],"data_offsets":[8,0]}"#, Y, 10),
            "failed: DataUnavailable, shard 0",
        ),
        (
            "offsets beyond the file",
            xy(r#"{"dtype":"U8","shape":[2,1,2,2],"data_offsets":[0,18446744073709551615]}"#, Y, 10),
            "failed: DataUnavailable, shard 0",
        ),
        ("images of another shape", shard(shard_bytes(&[0; 18], &[0, 1], &[1, 3, 3])), "failed: DataUnavailable, shape"),
        ("a class that there isn't", shard(shard_bytes(&[0; 8], &[0, 3], &[1, 2, 2])), "failed: DataUnavailable, class 3"),
        (
            "ten times the samples that were told",
            shard(shard_bytes(&[0; 80], &[0; 20], &[1, 2, 2])),
            "failed: DataUnavailable, 20 samples",
        ),
        ("no targets", shard(tensor_file::of_tensor("x", &[2, 1, 2, 2], &floats(8))), "failed: DataUnavailable, y"),
        (
            "a shard that the manifest doesn't have",
            request(Request::Shard { part: Part::Train, index: u32::MAX, bytes: good.clone() }),
            "failed: DataUnavailable, no shard",
        ),
        // Models and states.
        (
            "a model of another network",
            request(Request::LoadModel { safetensors: model("0.weight", &[9, 9], 81) }),
            "failed: DataUnavailable, 0.weight",
        ),
        (
            "a model that isn't there",
            request(Request::LoadModel { safetensors: Vec::new() }),
            "failed: DataUnavailable, model file",
        ),
        (
            "a model of numbers that are none",
            request(Request::LoadModel { safetensors: not_a_number() }),
            "failed: DataUnavailable, not finite",
        ),
        (
            "a state without its round",
            request(Request::Restore { state: model("0.weight", &[2, 1, 1, 1], 2) }),
            "failed: DataUnavailable, rounds",
        ),
        (
            "a state from after the end",
            request(Request::Restore { state: late_state() }),
            "failed: DataUnavailable, after the job's end",
        ),
        // Requests in a wrong order, and averages.
        (
            "work on a shard that was not given",
            request(Request::Assign { train: vec![7], validate: vec![] }),
            "failed: TrainerCrashed, shard 7",
        ),
        (
            "a round from the end of time",
            request(Request::Round { round: u64::MAX }),
            "failed: TrainerCrashed, round 18446744073709551615",
        ),
        ("an average that is too short", request(Request::Apply { values: vec![0; 4] }), "failed: TrainerCrashed, floats"),
        ("an average that isn't floats", request(Request::Apply { values: vec![0; 7] }), "failed: TrainerCrashed, floats"),
        (
            "an average of infinities",
            request(Request::Apply { values: f32::INFINITY.to_le_bytes().repeat(39) }),
            "failed: Diverged, finite",
        ),
        ("outputs of a shard that was not given", request(Request::Predict { index: 9 }), "failed: TrainerCrashed, shard 9"),
        // What is no request.
        ("a frame of four gibibytes", Raw(vec![255, 255, 255, 255, 0]), "ended: 2"),
        ("a frame that ends too early", Raw(longer), "ended: 2"),
        ("half a length", Raw(vec![9, 0]), "ended: 2"),
        ("a request with a flipped bit", Raw(flipped), "ended: 2"),
        ("a list of four billion shards in nine bytes", Raw([vec![9, 0, 0, 0, 2], vec![255; 8]].concat()), "ended: 2"),
        ("an empty frame", Raw(vec![0; 4]), "ended: 2"),
        ("a frame of a gibibyte, to fill the memory", Flood, "ended: 86"),
    ]
}

const Y: &str = r#"{"dtype":"U8","shape":[2],"data_offsets":[8,10]}"#;

fn arrays(x: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("x.npy", x), ("y.npy", npy("4,", &[0, 1, 0, 1]))]
}

fn pictures(first: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("cat/1.png", first.clone()), ("dog/1.png", first)]
}

/// Images that say that they are two, and go on for 64 MiB.
fn bomb_of_images() -> Vec<(&'static str, Vec<u8>)> {
    let images = packed(&[&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..], &vec![0; 1 << 20]].concat(), 64);
    let labels = packed(&[0, 0, 8, 1, 0, 0, 0, 2, 0, 1], 1);
    vec![
        ("train-images-idx3-ubyte.gz", images.clone()),
        ("train-labels-idx1-ubyte.gz", labels.clone()),
        ("t10k-images-idx3-ubyte.gz", images),
        ("t10k-labels-idx1-ubyte.gz", labels),
    ]
}

fn other_spec() -> Vec<u8> {
    let text = TOML.replace("input = [1, 2, 2]", "input = [1, 9, 9]");
    JobSpec::from_toml(&text, &|_| Some(manifest().hash())).expect("a valid spec").to_bytes()
}

/// The model of the spec, of which one number is none.
fn not_a_number() -> Vec<u8> {
    let mut trainer = begun();
    let Reply::Model { safetensors } = trainer.ask(&Request::Export) else { panic!("no model") };
    let mut model = safetensors;
    let end = model.len();
    model[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    model
}

fn late_state() -> Vec<u8> {
    let facts = tensor_file::STATE_FACTS.map(|fact| (fact, u64::MAX));
    tensor_file::with_tensors(&tensor_file::of_tensor("0.weight", &[1], &[0; 4]), &[], &facts).expect("a tensor file")
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_deepmarket-trainer"))
}

/// A trainer with its samples.
fn begun() -> Process {
    let mut trainer = Process::start(program(), &["--ram-mib", &RAM_MIB.to_string()]);
    let start = Request::Start {
        spec: spec().to_bytes(),
        seed: Hash::of(b"seed"),
        world: 1,
        train_samples: 4,
        data: manifest().to_bytes(),
    };
    assert!(matches!(trainer.ask(&start), Reply::Started { floats: 39, .. }));
    for (part, index) in [(Part::Train, 0), (Part::Train, 1), (Part::Validate, 0)] {
        assert_eq!(trainer.ask(&Request::Shard { part, index, bytes: good_shard() }), Reply::Loaded { samples: 2 });
    }
    trainer
}

/// Works on, within its memory, as if nothing had been.
fn goes_on(trainer: &mut Process, name: &str) {
    match trainer.ask(&Request::Round { round: 0 }) {
        Reply::Update { samples: 2, peak_ram_mib, .. } => assert!(peak_ram_mib <= RAM_MIB, "{name}: {peak_ram_mib} MiB"),
        other => panic!("{name}: {other:?}"),
    }
    assert!(matches!(trainer.ask(&Request::Evaluate), Reply::Evaluated { samples: 2, .. }), "{name}");
}

fn words_of(reply: Reply, expected: &str) -> String {
    let Reply::Failed { reason, message } = reply else { return format!("{reply:?}") };
    let words = expected.split_once(", ").map_or("", |(_, words)| words);
    match message.contains(words) && !message.contains("panicked") {
        true => format!("failed: {reason:?}, {words}"),
        false => format!("failed: {reason:?}, {message}"),
    }
}

fn imported(format: Format, files: Vec<(&str, Vec<u8>)>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in &files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }
    let input = match &files[..] {
        [(name, _)] => Input::One(folder.path().join(name)),
        _ => Input::One(folder.path().to_owned()),
    };
    let options = Options { format: Some(format), target: Some("y".into()), ..Options::new("hostile") };
    match import(&input, &options, &mut |_, _| Ok(())) {
        Ok(import) => format!("imported {:?}", import.manifest),
        Err(error) => error.code().to_string(),
    }
}

/// What a trainer's process ends with where this is on its pipe.
fn ended(mut write: impl FnMut(&mut ChildStdin) -> io::Result<()>) -> String {
    let mut child = Command::new(program())
        .args(["--ram-mib", &RAM_MIB.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the trainer starts");
    // It may end before it has read all.
    write(&mut child.stdin.take().expect("piped")).ok();
    let status = child.wait().expect("the trainer ends");
    let (mut answer, mut words) = (Vec::new(), String::new());
    child.stdout.take().expect("piped").read_to_end(&mut answer).expect("its answers");
    child.stderr.take().expect("piped").read_to_string(&mut words).expect("its words");
    assert!(answer.is_empty() && !words.contains("panicked"), "{words}");
    let code = status.code().map_or("by a signal".into(), |code| code.to_string());
    assert!(code == EXIT_OUT_OF_MEMORY.to_string() || words.contains("the pipe to the worker broke"), "{words}");
    format!("ended: {code}")
}

#[test]
fn each_hostile_input_ends_in_exactly_this_error_and_the_trainer_goes_on() {
    let mut trainer = begun();
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, sent, expected) in cases() {
        let spec_code = |result: Result<JobSpec, deepmarket_job::SpecError>| match result {
            Ok(spec) => format!("accepted {spec:?}"),
            Err(error) => error.code().to_string(),
        };
        let answer = match sent {
            Toml(from, to) => {
                let manifest = manifest();
                spec_code(JobSpec::from_toml_for(&TOML.replacen(from, &to, 1), &|_| Some(manifest.hash()), &manifest))
            }
            Spec(bytes) => spec_code(JobSpec::from_bytes(&bytes)),
            Manifest(bytes) => match DatasetManifest::from_bytes(&bytes) {
                Ok(manifest) => format!("accepted {manifest:?}"),
                Err(error) => error.code().to_string(),
            },
            Files(format, files) => imported(format, files),
            Start(spec, data) => {
                let start = Request::Start { spec, seed: Hash::default(), world: 1, train_samples: 4, data };
                let answer = words_of(trainer.ask(&start), expected);
                goes_on(&mut trainer, name);
                answer
            }
            Sent::Request(request) => {
                let answer = words_of(trainer.ask(&request), expected);
                goes_on(&mut trainer, name);
                answer
            }
            Raw(bytes) => ended(|pipe| pipe.write_all(&bytes)),
            Flood => ended(|pipe| {
                pipe.write_all(&[0, 0, 0, 64])?;
                (0..1024).try_for_each(|_| pipe.write_all(&[1; 1 << 20]))
            }),
        };
        if answer != expected {
            wrong.push(format!("{name}: {expected} is expected, and this came: {answer}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 50, "{count} cases");
}
