//! Writes the seeds of the corpus from real values: golden vectors, example specs, and what this release's own writers write.
//! Run in the repository's root: `cargo run --release --locked -p deepmarket-fuzz-targets --example seeds`.

mod files;
mod network;

use std::{fs, path::Path};

use deepmarket_job::{
    DatasetManifest, EvaluationResult, JobSpec, Name, PredictedShard, Predictions, Shard,
    protocol::{Part, Reply, Request, write_frame},
    tensor_file,
};
use deepmarket_types::*;

fn main() {
    chain();
    genesis();
    specs();
    data();
    pipe();
    files::write();
    network::write();
}

/// Writes a seed; one that is there under the same name is replaced.
fn seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus is in the checkout");
    fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

fn chain() {
    let mut transactions = Vec::new();
    for line in include_str!("../../../../chain/types/tests/vectors.txt").lines().filter(|line| !line.starts_with('#')) {
        let [name, _, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("not a vector: {line}") };
        let bytes = hex::decode(bytes).expect("hex digits");
        if name == "header" {
            let header: Header = decode(&bytes).expect("a header");
            let block = Block { header, transactions: transactions.clone() };
            seed("block", "full", &[&[0], encode(&block).as_slice()].concat());
            seed("block", "empty", &[&[0], encode(&Block { transactions: Vec::new(), ..block }).as_slice()].concat());
            seed("block", "header", &[&[1], bytes.as_slice()].concat());
        } else {
            seed("transaction", name, &bytes);
            transactions.push(decode::<Transaction>(&bytes).expect("a transaction"));
        }
    }
    let result =
        TransactionResult { id: Hash::of(b"transaction"), code: 2001, message: "the nonce is 3, not 2".into(), events: 0 };
    seed("block", "result", &[&[2], encode(&result).as_slice()].concat());
    seed("block", "event", &[&[3], encode(&network::sample_event()).as_slice()].concat());
    let public = key(1).public();
    let texts = [
        ("account", AccountId::from_key(&public).to_string()),
        ("machine", MachineId::from_key(&public).to_string()),
        ("job", JobId(7).to_string()),
        ("lease", LeaseId(9).to_string()),
        ("hash", Hash::of(b"blob").to_string()),
        ("key", public.to_string()),
        ("signature", key(1).sign(Domain::Request, &Hash::of(b"vectors"), b"content").to_string()),
        ("credits", "18446744073709.551615".into()),
        ("height", "18446744073709551615".into()),
    ];
    texts.iter().for_each(|(name, text)| seed("identifier", name, text.as_bytes()));
}

fn genesis() {
    let local = deepmarket_genesis::Genesis::from_toml(deepmarket_genesis::LOCAL).expect("the local network");
    let validator = |number: u8| deepmarket_genesis::Validator {
        name: format!("validator-{number}"),
        key: key(number).public(),
        consensus: format!("/ip4/127.0.0.1/tcp/2700{number}"),
        gateway: format!("http://127.0.0.1:808{number}"),
    };
    let complete = local.complete(TimeMs(1_795_000_000_000), vec![validator(1), validator(2)], vec![key(9).public()]);
    seed("genesis", "complete", complete.expect("it is complete").to_toml().as_bytes());
    seed("genesis", "local", deepmarket_genesis::LOCAL.as_bytes());
    seed("genesis", "psu", deepmarket_genesis::PSU.as_bytes());
}

fn specs() {
    let resolve = |name: Name| {
        Some(match name {
            Name::Dataset(name) => Hash::of(name.as_bytes()),
            Name::Job(job) => Hash::of(&job.0.to_le_bytes()),
        })
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("an example");
        // Without the comments, which teach a fuzzer nothing.
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect::<Vec<_>>().join("\n");
        seed("spec_toml", &name, lines.as_bytes());
        seed("spec_bytes", &name, &JobSpec::from_toml(&text, &resolve).expect("a valid example").to_bytes());
    }
}

fn manifest(x: &str, y: &str, shape: &str) -> DatasetManifest {
    let shard = |samples: u64| Shard { hash: Hash::of(&samples.to_le_bytes()), bytes: samples * 4096, samples };
    let split = |name: &str, shards: &[u64]| {
        let shards: Vec<Shard> = shards.iter().map(|samples| shard(*samples)).collect();
        serde_json::json!({ "name": name, "samples": shards.iter().map(|s| s.samples).sum::<u64>(), "shards": shards })
    };
    let (x, y): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(x).expect("JSON"), serde_json::from_str(y).expect("JSON"));
    let shape: Vec<u32> = serde_json::from_str(shape).expect("JSON");
    let all = serde_json::json!({
        "name": "seed", "shape": shape, "x": x, "y": y, "splits": [split("train", &[10, 11, 9]), split("test", &[5])],
    });
    serde_json::from_value(all).expect("a manifest")
}

fn data() {
    let manifests = [
        ("images", manifest(r#"{"u8":{"mean":"0.1307","std":"0.3081"}}"#, r#"{"class":{"classes":10}}"#, "[1,28,28]")),
        ("table", manifest(r#""f32""#, r#"{"values":{"shape":[1]}}"#, "[8]")),
        ("text", manifest(r#"{"tokens":{"vocabulary":256}}"#, r#"{"tokens":{"vocabulary":256}}"#, "[128]")),
    ];
    for (name, manifest) in manifests {
        manifest.check().expect("a valid manifest");
        seed("manifest", name, &manifest.to_bytes());
    }
    let shard = |index: u32| PredictedShard { index, samples: 3, blob: Hash::of(&index.to_le_bytes()), bytes: 220 };
    let predictions = Predictions { shape: vec![10], samples: 6, shards: vec![shard(0), shard(1)] };
    seed("result", "predictions", &predictions.to_bytes());
    let evaluation = EvaluationResult { samples: 10_000, correct: Some(9_870), loss: 0.125 };
    seed("result", "evaluation", &evaluation.to_bytes());

    let model = tensor_file::of_tensor("0.weight", &[2, 1], &[0, 0, 128, 63, 0, 0, 0, 64]);
    let facts = tensor_file::STATE_FACTS.map(|fact| (fact, 7));
    let state = tensor_file::with_tensors(&model, &[("optimizer.first", &[1.0]), ("outer.momentum", &[])], &facts);
    seed("tensor_file", "model", &model);
    seed("tensor_file", "state", &state.expect("a model"));
}

fn pipe() {
    let requests = [
        Request::Start { spec: vec![1, 2], seed: Hash::of(b"seed"), world: 2, train_samples: 100, data: vec![3] },
        Request::Shard { part: Part::Validate, index: 3, bytes: vec![8, 0, 0] },
        Request::Assign { train: vec![0, 2], validate: vec![1] },
        Request::Round { round: 7 },
        Request::Apply { values: vec![0, 0, 128, 63] },
        Request::Evaluate,
        Request::Predict { index: 1 },
        Request::Save { trained: 99 },
        Request::Restore { state: vec![1] },
        Request::Export,
        Request::LoadModel { safetensors: vec![2] },
        Request::Measure { seed: 5 },
        Request::Stop,
    ];
    let hash = Hash::of(b"parameters");
    let replies = [
        Reply::Started { floats: 9, parameters: hash },
        Reply::Loaded { samples: 10 },
        Reply::Assigned { train_samples: 10, validate_samples: 5 },
        Reply::Update {
            values: vec![0; 4],
            samples: 3,
            loss_sum: 1,
            cpu_ms: 2,
            inputs: hash,
            steps: hash,
            output: hash,
            peak_ram_mib: 30,
        },
        Reply::Evaluated { samples: 5, correct: Some(4), loss_sum: 7 },
        Reply::Predicted { outputs: vec![0; 8], shape: vec![2], samples: 1, correct: None, loss_sum: 0 },
        Reply::Saved { state: vec![1], parameters: hash, round: 3 },
        Reply::Restored { parameters: hash, round: 3, trained: 4 },
        Reply::Measured { mega_multiply_adds_per_s: 900, cores: 2, trainer: "0.1.0".into() },
        Reply::Failed { reason: FailureReason::OutOfMemory, message: "no memory".into() },
        Reply::Bye,
    ];
    let mut frames = Vec::new();
    requests.iter().for_each(|request| write_frame(&mut frames, request).expect("memory"));
    seed("pipe", "requests", &frames);
    frames.clear();
    replies.iter().for_each(|reply| write_frame(&mut frames, reply).expect("memory"));
    seed("pipe", "replies", &frames);
    frames.clear();
    write_frame(&mut frames, &Request::Round { round: u64::MAX }).expect("memory");
    seed("pipe", "round", &frames);
}
