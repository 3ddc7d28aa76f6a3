//! What a worker may send to its trainer: shards and models that strangers made, and anything else.

use std::sync::LazyLock;

use deepmarket_job::{
    DatasetManifest, JobSpec,
    protocol::{Part, Reply, Request, read_frame, write_frame},
};
use deepmarket_trainer::serve;
use deepmarket_types::Hash;

/// A model of a few parameters, and a dataset of bytes and classes.
const SPEC: &str = r#"
name = "fuzz"
workers = { ram_mib = 512 }
budget = { max_credits = 1 }
data = { manifest = "fuzz" }
model = { input = [2], layers = [{ linear = { out = 3 } }, { batch_norm = {} }] }
training = { loss = "cross_entropy", optimizer = { adam = { lr = 1e-3 } }, batch = 2, epochs = 2 }
"#;
const MANIFEST: &str = r#"{"name":"fuzz","shape":[2],"x":{"u8":{"mean":"0","std":"1"}},"y":{"class":{"classes":3}},"splits":[{"name":"train","samples":4,"shards":[{"hash":"blake3:0000000000000000000000000000000000000000000000000000000000000000","bytes":152,"samples":2},{"hash":"blake3:0000000000000000000000000000000000000000000000000000000000000001","bytes":152,"samples":2}]},{"name":"test","samples":2,"shards":[{"hash":"blake3:0000000000000000000000000000000000000000000000000000000000000002","bytes":152,"samples":2}]}]}"#;

static BEGINNING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let manifest = DatasetManifest::from_bytes(MANIFEST.as_bytes()).expect("a valid manifest");
    let spec = JobSpec::from_toml_for(SPEC, &|_| Some(manifest.hash()), &manifest).expect("a valid spec");
    let (spec, seed, data) = (spec.to_bytes(), Hash::of(b"seed"), manifest.to_bytes());
    let shard =
        |part, index| Request::Shard { part, index, bytes: deepmarket_dataset::shard_bytes(&[1, 2, 3, 4], &[0, 2], &[2]) };
    let requests = [
        Request::Start { spec, seed, world: 1, train_samples: 4, data },
        shard(Part::Train, 0),
        shard(Part::Train, 1),
        shard(Part::Validate, 0),
    ];
    frames(&requests)
});

fn frames(requests: &[Request]) -> Vec<u8> {
    let mut frames = Vec::new();
    requests.iter().for_each(|request| write_frame(&mut frames, request).expect("memory"));
    frames
}

/// Requests to a trainer that has begun: the first byte says whether the rest is a shard, a model, a state, an average, or
/// frames.
pub(crate) fn trainer(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let bytes = data.to_vec();
    let mut requests = match kind % 5 {
        0 => vec![Request::Shard { part: Part::Train, index: 0, bytes }],
        1 => vec![Request::LoadModel { safetensors: bytes }],
        2 => vec![Request::Restore { state: bytes }],
        3 => vec![Request::Round { round: 0 }, Request::Apply { values: bytes }],
        _ => {
            let (mut from, mut requests) = (data, Vec::new());
            while let Ok(Some(request)) = read_frame::<Request>(&mut from) {
                requests.push(request);
            }
            // One measures for a second, the other asks for memory: that it may is the spec's own target.
            requests.retain(|request| !matches!(request, Request::Measure { .. } | Request::Start { .. }));
            requests.truncate(8);
            requests
        }
    };
    requests.extend([Request::Assign { train: vec![0], validate: vec![0] }, Request::Round { round: 0 }, Request::Evaluate]);
    let asked = [BEGINNING.as_slice(), &frames(&requests)].concat();
    let mut answered = Vec::new();
    serve(&mut asked.as_slice(), &mut answered).expect("pipes in memory don't break");
    let (mut from, mut replies) = (answered.as_slice(), 0);
    while let Some(reply) = read_frame::<Reply>(&mut from).expect("replies") {
        replies += 1;
        if let Reply::Failed { message, .. } = reply {
            assert!(!message.contains("panicked"), "{message}");
            assert!(message.len() < 16 * 1024, "an error of {} bytes", message.len());
        }
    }
    let stopped = requests.contains(&Request::Stop);
    assert!(stopped || replies == 4 + requests.len(), "{replies} answers to {} requests", 4 + requests.len());
}
