use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use deepmarket_api::{Client, JobView};
use deepmarket_job::JobSpec;
use deepmarket_types::{JobId, JobState};
use deepmarket_worker::{Evaluation, evaluate_model};
use serde_json::json;

use crate::{
    error::{Failure, Outcome, io},
    output,
    processes::trainer,
    settings::Settings,
    verbs::{follow, job},
};

/// A fetched model.
pub struct Fetched {
    pub model_path: PathBuf,
    pub model: Bytes,
    /// Rounds done by then, or a little later, where it is the last checkpoint of a job that was stopped.
    pub checkpoint_rounds: Option<u64>,
}

pub async fn run(settings: &Settings, id: JobId, out: &Path, evaluate_too: bool) -> Outcome {
    let client = settings.client()?;
    let view = job::fetch(&client, id).await?;
    let fetched = fetch(&client, &view, out).await?;
    let evaluation = match evaluate_too {
        true => {
            let spec = JobSpec::from_toml(&view.spec, &|_| None).map_err(Failure::bug)?;
            Some(evaluate(&client, &spec, fetched.model.to_vec()).await?)
        }
        false => None,
    };
    let accuracy = evaluation.as_ref().and_then(|e| e.correct.map(|c| follow::percent(c, e.samples) / 100.0));
    let report = json!({ "job": id, "model": fetched.model_path, "bytes": fetched.model.len(), "accuracy": accuracy,
        "checkpoint_rounds": fetched.checkpoint_rounds });
    settings.output.show(&report, || {
        let mut text = format!("{}: {}", fetched.model_path.display(), output::bytes(fetched.model.len() as u64));
        if let Some(rounds) = fetched.checkpoint_rounds {
            let state = state_words(&view);
            text += &format!(
                "\n{id} {state}: this is its last checkpoint, of round {rounds} or a little before it, not a finished model"
            );
        }
        if let Some(accuracy) = accuracy {
            text += &format!("\naccuracy on the validation data, computed on this machine: {:.2} %", accuracy * 100.0);
        }
        text
    })?;
    if !evaluate_too {
        settings.output.next(format!("deepmarket job result {id} --out {} --evaluate computes its accuracy here", out.display()));
    }
    Ok(())
}

fn state_words(view: &JobView) -> String {
    match view.state {
        JobState::Cancelled => "was cancelled".into(),
        _ => format!("was stopped ({})", view.reason),
    }
}

/// Fetches a job's model and spec into a folder: a finished job's result, or the last checkpoint of one that was stopped.
pub async fn fetch(client: &Client, view: &JobView, out: &Path) -> Outcome<Fetched> {
    let (hash, checkpoint_rounds) = match (view.result, &view.checkpoint) {
        (Some(result), _) => (result, None),
        (None, Some(checkpoint)) if view.state.is_closed() => (checkpoint.model, Some(checkpoint.rounds)),
        _ => {
            let hint = match view.state.is_closed() {
                true => "it ended before its first checkpoint: nothing of it is left".to_owned(),
                false => format!("wait for it: deepmarket job logs {} --follow", view.id),
            };
            return Err(Failure::user(format!("{} has no result: it is {}", view.id, view.status)).hint(hint));
        }
    };
    let model = client.get_blob(hash, &|_| {}).await?;
    fs::create_dir_all(out).map_err(io(out.display()))?;
    let model_path = out.join("model.safetensors");
    fs::write(&model_path, &model).map_err(io(model_path.display()))?;
    let spec_path = out.join("spec.toml");
    fs::write(&spec_path, &view.spec).map_err(io(spec_path.display()))?;
    Ok(Fetched { model_path, model, checkpoint_rounds })
}

/// Computes a model's accuracy and loss on the job's validation split, in a trainer on this machine.
pub async fn evaluate(client: &Client, spec: &JobSpec, model: Vec<u8>) -> Outcome<Evaluation> {
    let manifest = job::manifest(client, spec).await?;
    let split = manifest.split(&spec.data.validate).map_err(|e| Failure::user(&e).code(e.code()))?;
    let mut shards = Vec::new();
    for shard in &split.shards {
        shards.push(client.get_blob(shard.hash, &|_| {}).await?.to_vec());
    }
    Ok(evaluate_model(&trainer()?, spec, &manifest, model, shards).await?)
}
