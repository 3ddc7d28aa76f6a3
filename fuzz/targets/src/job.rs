//! What borrowers, datasets and trainers say: specs, manifests, results, tensor files, messages over pipes.

use std::sync::LazyLock;

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_job::{
    DatasetManifest, EvaluationResult, JobSpec, MAX_SPEC_BYTES, Name, Predictions, Schedule, layer_shapes,
    protocol::{Reply, Request, read_frame, write_frame},
    tensor_file,
};
use deepmarket_types::Hash;

use crate::check::said;

/// Specs of every kind of dataset that a manifest may be of.
static EXAMPLES: LazyLock<Vec<JobSpec>> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../examples/mnist.toml"),
        include_str!("../../../examples/resnet-small.toml"),
        include_str!("../../../examples/char-transformer.toml"),
    ];
    texts.iter().map(|text| JobSpec::from_toml(text, &resolve).expect("the examples are valid")).collect()
});

/// Any dataset and any job is known.
fn resolve(name: Name) -> Option<Hash> {
    Some(match name {
        Name::Dataset(name) => Hash::of(name.as_bytes()),
        Name::Job(job) => Hash::of(&job.0.to_le_bytes()),
    })
}

/// A job file.
pub(crate) fn spec_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match JobSpec::from_toml(text, &resolve) {
        Ok(spec) => accepted(&spec),
        Err(error) => {
            assert!((3001..3020).contains(&error.code()));
            assert!(error.line.is_none_or(|line| line <= text.lines().count() + 1), "{error}");
            said(&error);
        }
    }
}

/// A spec as it travels on the chain.
pub(crate) fn spec_bytes(data: &[u8]) {
    match JobSpec::from_bytes(data) {
        Ok(spec) => {
            assert!(spec.to_bytes() == data, "one spec has two encodings");
            accepted(&spec);
        }
        Err(error) => said(&error),
    }
}

/// What holds for every spec that was accepted.
fn accepted(spec: &JobSpec) {
    let size = spec.check().expect("what was read was checked");
    let bytes = spec.to_bytes();
    assert!(bytes.len() <= MAX_SPEC_BYTES, "a spec that can't be submitted: {} bytes", bytes.len());
    assert_eq!(JobSpec::from_bytes(&bytes).as_ref(), Ok(spec));
    assert_eq!(JobSpec::from_toml(&spec.to_toml(), &resolve).as_ref(), Ok(spec), "{}", spec.to_toml());
    let shapes = layer_shapes(&spec.model).expect("the layers fit together");
    assert_eq!(shapes.last(), Some(&size.output));
    // Whatever the chain says of samples and ranks.
    for (samples, world) in [(0, 0), (1, 1), (60_000, 3), (1 << 40, 64), (u64::MAX, u32::MAX)] {
        let schedule = Schedule::new(spec, samples, world);
        for round in [0, 1, schedule.rounds / 2, schedule.rounds.saturating_sub(1), schedule.rounds, u64::MAX] {
            let steps = schedule.steps_of_round(round);
            assert!(steps.start <= steps.end && steps.end <= schedule.steps);
            schedule.learning_rate(&spec.training, steps.start);
            schedule.epoch_ended_by(round);
            let slice = schedule.slice(round, 3, 7, 1000);
            assert!(slice.start <= slice.end && slice.end <= 1000);
        }
    }
}

/// A dataset's manifest.
pub(crate) fn manifest(data: &[u8]) {
    match DatasetManifest::from_bytes(data) {
        Ok(manifest) => {
            assert!(manifest.to_bytes() == data, "one manifest has two encodings");
            manifest.check().expect("what was read was checked");
            assert_eq!(manifest.hash(), Hash::of(data));
            for split in &manifest.splits {
                assert_eq!(manifest.split(&split.name).as_ref(), Ok(&split));
                assert_eq!(split.samples, split.shards.iter().map(|shard| shard.samples).sum::<u64>());
                let fits = |bytes: u64, samples: u64| bytes / samples >= manifest.sample_bytes();
                assert!(split.shards.iter().all(|shard| fits(shard.bytes, shard.samples)));
            }
            for spec in EXAMPLES.iter() {
                spec.check_with(&manifest).err().iter().for_each(said);
            }
        }
        Err(error) => said(&error),
    }
}

/// The result of a job that isn't a model.
pub(crate) fn result(data: &[u8]) {
    match Predictions::from_bytes(data) {
        Ok(predictions) => {
            assert!(predictions.to_bytes() == data, "one result has two encodings");
            predictions.values();
        }
        Err(error) => said(&error),
    }
    match EvaluationResult::from_bytes(data) {
        Ok(evaluation) => {
            let again = EvaluationResult::from_bytes(&evaluation.to_bytes()).expect("a result is read as it was written");
            assert_eq!((again.samples, again.correct), (evaluation.samples, evaluation.correct));
            assert!(evaluation.accuracy().is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
        Err(error) => said(&error),
    }
}

/// A safetensors file of a model or a saved state.
pub(crate) fn tensor_file(data: &[u8]) {
    for fact in tensor_file::STATE_FACTS {
        tensor_file::fact_of(data, fact);
    }
    let model = tensor_file::model_of(data);
    if let Some(model) = &model {
        assert_eq!(tensor_file::model_of(model).as_ref(), Some(model), "a model has nothing of a state");
    }
    let facts = [(tensor_file::STATE_FACTS[0], u64::MAX)];
    if let Some(state) = tensor_file::with_tensors(data, &[("optimizer.first", &[1.0, 2.0])], &facts) {
        assert_eq!(tensor_file::fact_of(&state, tensor_file::STATE_FACTS[0]), Some(u64::MAX));
        assert_eq!(tensor_file::model_of(&state), tensor_file::model_of(&state).and_then(|model| tensor_file::model_of(&model)));
    }
}

/// What worker and trainer send to each other. A trainer is not trusted, and neither is who speaks to one.
pub(crate) fn pipe(data: &[u8]) {
    frames::<Request>(data);
    frames::<Reply>(data);
}

fn frames<T: BorshSerialize + BorshDeserialize>(data: &[u8]) {
    let (mut from, mut written) = (data, Vec::new());
    loop {
        let before = data.len() - from.len();
        match read_frame::<T>(&mut from) {
            Ok(Some(message)) => {
                written.clear();
                write_frame(&mut written, &message).expect("what was read can be written");
                assert!(written == data[before..data.len() - from.len()], "one message has two encodings");
            }
            Ok(None) => return assert!(from.is_empty()),
            Err(error) => return said(&error),
        }
    }
}
