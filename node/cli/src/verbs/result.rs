//! `job result`: what a job made, as files.
//!
//! | job | files |
//! |---|---|
//! | `train` | `model.safetensors`, `model.py` (loads it into PyTorch, where its layers are ones of PyTorch) |
//! | `evaluate` | `evaluation.json` |
//! | `predict` | `predictions.safetensors` |
//! | all | `spec.toml`, `metrics.csv`, and TensorBoard's event file of one that trained |

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use deepmarket_api::{Client, JobView};
use deepmarket_job::{EvaluationResult, JobSpec, Kind, Predictions, ResultError, tensor_file};
use deepmarket_types::{JobId, JobState};
use deepmarket_wallet::jobs;
use deepmarket_worker::{Evaluation, evaluate_model};
use serde_json::json;

use crate::{
    error::{Failure, Outcome, io, of_worker},
    output,
    processes::trainer,
    settings::Settings,
    verbs::{
        follow,
        job::record::{Record, csv},
    },
};

mod predictions;
mod snippet;
mod tensorboard;

/// A fetched model.
pub struct Fetched {
    pub model_path: PathBuf,
    pub model: Bytes,
    /// Rounds that it has learnt from, where it is the last checkpoint of a job that was stopped.
    pub checkpoint_rounds: Option<u64>,
}

pub async fn run(settings: &Settings, id: JobId, out: &Path, evaluate_too: bool) -> Outcome {
    let client = settings.client()?;
    let view = jobs::fetch(&client, id).await?;
    let kind = jobs::kind_of(&view);
    if evaluate_too && kind != Kind::Train {
        return Err(Failure::user(format!("{id} made no model that could be evaluated")).with_hint("leave out --evaluate"));
    }
    match kind {
        Kind::Train => model(settings, &client, &view, out, evaluate_too).await,
        Kind::Evaluate => evaluation(settings, &client, &view, out).await,
        Kind::Predict => predict(settings, &client, &view, out).await,
    }
}

async fn model(settings: &Settings, client: &Client, view: &JobView, out: &Path, evaluate_too: bool) -> Outcome {
    let id = view.id;
    let fetched = fetch(client, view, out).await?;
    let metrics = write_metrics(client, view, out).await?;
    let spec = JobSpec::from_toml(&view.spec, &|_| None).map_err(Failure::bug)?;
    let manifest = jobs::manifest(client, &spec).await.ok();
    let python = snippet::python(&spec, manifest.as_ref());
    let python_path = out.join("model.py");
    if let Some(python) = &python {
        fs::write(&python_path, python).map_err(io(python_path.display()))?;
    }
    let evaluation = match evaluate_too {
        true => {
            let Evaluation { samples, correct, loss } = evaluate(client, &spec, fetched.model.to_vec()).await?;
            Some(EvaluationResult { samples, correct, loss })
        }
        false => None,
    };
    let (accuracy, loss) = (evaluation.as_ref().and_then(EvaluationResult::accuracy), evaluation.as_ref().map(|e| e.loss));
    let report = json!({ "job": id, "model": fetched.model_path, "bytes": fetched.model.len(), "accuracy": accuracy, "loss": loss,
        "checkpoint_rounds": fetched.checkpoint_rounds, "metrics": metrics, "python": python.as_ref().map(|_| &python_path) });
    settings.output.show(&report, || {
        let mut text = format!("{}: {}", fetched.model_path.display(), output::bytes(fetched.model.len() as u64));
        if let Some(rounds) = fetched.checkpoint_rounds {
            let state = state_words(view);
            text += &format!("\n{id} {state}: this is what it had learnt after {rounds} rounds, not a finished model");
        }
        if python.is_some() {
            text += &format!("\n{}: loads it into PyTorch", python_path.display());
        }
        text += &metrics_words(&metrics);
        if let Some(evaluation) = &evaluation {
            text += &format!("\non the validation data, computed on this machine: {}", result_words(evaluation));
        }
        text
    })?;
    if !evaluate_too {
        settings.output.next(format!("deepmarket job result {id} --out {} --evaluate computes its accuracy here", out.display()));
    } else {
        settings.output.next(format!("tensorboard --logdir {}", out.display()));
    }
    Ok(())
}

async fn evaluation(settings: &Settings, client: &Client, view: &JobView, out: &Path) -> Outcome {
    let bytes = client.get_blob(jobs::result_of(view)?, &|_| {}).await?;
    let result = EvaluationResult::from_bytes(&bytes).map_err(refused)?;
    write(out, "spec.toml", view.spec.as_bytes())?;
    let path = write(out, "evaluation.json", &bytes)?;
    let metrics = write_metrics(client, view, out).await?;
    let report = json!({ "job": view.id, "evaluation": result, "accuracy": result.accuracy(), "file": path, "metrics": metrics });
    settings.output.show(&report, || {
        format!("{}, computed by {}'s workers\n{}{}", result_words(&result), view.id, path.display(), metrics_words(&metrics))
    })
}

async fn predict(settings: &Settings, client: &Client, view: &JobView, out: &Path) -> Outcome {
    let bytes = client.get_blob(jobs::result_of(view)?, &|_| {}).await?;
    let result = Predictions::from_bytes(&bytes).map_err(refused)?;
    write(out, "spec.toml", view.spec.as_bytes())?;
    let path = out.join("predictions.safetensors");
    // A reader sees the whole file or none.
    let part = path.with_extension("part");
    let file = fs::File::create(&part).map_err(io(part.display()))?;
    let bar = settings.output.bytes_bar("fetching outputs", result.shards.iter().map(|shard| shard.bytes).sum());
    let fetch = async |shard: &deepmarket_job::PredictedShard| {
        let blob = client.get_blob(shard.blob, &|_| {}).await?;
        bar.inc(blob.len() as u64);
        Ok(blob)
    };
    let assembled = predictions::assemble(&result, |bytes, place| file.write_all_at(bytes, place), fetch).await;
    bar.finish_and_clear();
    if let Err(failure) = assembled {
        // What is left of it is of no use; the failure matters more than whether that went away.
        let _ = fs::remove_file(&part);
        return Err(failure);
    }
    drop(file);
    fs::rename(&part, &path).map_err(io(path.display()))?;
    let metrics = write_metrics(client, view, out).await?;
    let report =
        json!({ "job": view.id, "predictions": path, "samples": result.samples, "shape": result.shape, "metrics": metrics });
    settings.output.show(&report, || {
        let shape = std::iter::once(result.samples).chain(result.shape.iter().map(|side| u64::from(*side)));
        let shape: Vec<String> = shape.map(|side| side.to_string()).collect();
        let tensor = format!("tensor 'outputs' of {}, in the order of the imported data", shape.join(" x "));
        format!("{}: {tensor}{}", path.display(), metrics_words(&metrics))
    })
}

fn refused(error: ResultError) -> Failure {
    Failure::environment(&error).with_code(error.code())
}

/// `98.70 % right (9870 of 10000), mean loss 0.0412`.
fn result_words(result: &EvaluationResult) -> String {
    let right = result.correct.map(|correct| {
        let percent = follow::percent(correct, result.samples);
        format!("accuracy {percent:.2} % ({correct} of {}), ", result.samples)
    });
    format!("{}mean loss {:.4}", right.unwrap_or_else(|| format!("{} samples, ", result.samples)), result.loss)
}

fn state_words(view: &JobView) -> String {
    match view.state {
        JobState::Cancelled => "was cancelled".into(),
        _ => format!("was stopped ({})", view.reason),
    }
}

/// Fetches a job's model and spec into a folder: a finished job's result, or the last checkpoint of one that was stopped.
pub async fn fetch(client: &Client, view: &JobView, out: &Path) -> Outcome<Fetched> {
    let (hash, checkpoint_rounds) = jobs::model_blob(view)?;
    let blob = client.get_blob(hash, &|_| {}).await?;
    let model = match checkpoint_rounds {
        None => blob,
        // A checkpoint holds the optimizer's state too, which PyTorch's modules know nothing of.
        Some(_) => tensor_file::model_of(&blob)
            .ok_or_else(|| {
                Failure::environment(format!("the checkpoint of {} is no safetensors file", view.id))
                    .with_hint("its workers stored it wrongly: submit the job again")
            })?
            .into(),
    };
    let model_path = write(out, "model.safetensors", &model)?;
    write(out, "spec.toml", view.spec.as_bytes())?;
    Ok(Fetched { model_path, model, checkpoint_rounds })
}

/// Writes a file into a folder that is made if it isn't there.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Outcome<PathBuf> {
    fs::create_dir_all(folder).map_err(io(folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(io(path.display()))?;
    Ok(path)
}

/// Writes what the workers reported, as files; gives their paths. None where nothing was reported.
async fn write_metrics(client: &Client, view: &JobView, out: &Path) -> Outcome<Vec<PathBuf>> {
    let record = Record::of(client.all_progress(view.id).await?);
    if record.by_time().is_empty() {
        return Ok(Vec::new());
    }
    let mut paths = vec![write(out, "metrics.csv", csv::whole(&record).as_bytes())?];
    if jobs::kind_of(view) == Kind::Train {
        let began = view.started.unwrap_or(view.submitted);
        paths.push(write(out, &tensorboard::file_name(view.id, began), &tensorboard::events(&record, began))?);
    }
    Ok(paths)
}

fn metrics_words(paths: &[PathBuf]) -> String {
    let about = |path: &PathBuf| match path.extension().is_some_and(|extension| extension == "csv") {
        true => "the job's numbers, for a spreadsheet",
        false => "the same for TensorBoard",
    };
    paths.iter().map(|path| format!("\n{}: {}", path.display(), about(path))).collect()
}

/// Computes a model's accuracy and loss on the job's validation split, in a trainer on this machine.
pub async fn evaluate(client: &Client, spec: &JobSpec, model: Vec<u8>) -> Outcome<Evaluation> {
    let manifest = jobs::manifest(client, spec).await?;
    let split = manifest.split(&spec.data.validate).map_err(|e| Failure::user(&e).with_code(e.code()))?;
    let mut shards = Vec::new();
    for shard in &split.shards {
        shards.push(client.get_blob(shard.hash, &|_| {}).await?.to_vec());
    }
    evaluate_model(&trainer()?, spec, &manifest, model, shards).await.map_err(of_worker)
}
