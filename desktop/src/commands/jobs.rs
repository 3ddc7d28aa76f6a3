//! Jobs: presets, datasets, checking, submitting, following, results.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_types::{Action, JobId, MachineId, SlotClock};
use deepmarket_wallet::{
    datasets::{self, Datasets, Input, Options, Step},
    jobs,
};
use serde_json::Value;
use tauri::ipc::Channel;

use crate::{
    connection::Chosen,
    convert,
    error::{Answer, BAD_INPUT, bug, io},
    follow, job_file,
    state::{App, Pluto, hold},
    view::{
        CommandError, Dataset, ImportProgress, JobCheck, JobFields, JobNews, Preset, SavedResult, SpecProblem, Split,
        Verification,
    },
};

/// The least time between two messages about an import.
const PROGRESS: Duration = Duration::from_millis(100);
/// How long fetching and evaluating a result may take.
const RESULT: Duration = Duration::from_secs(30 * 60);
/// The spec's codes: what is wrong with the file itself, or with what it names.
const SPEC_CODES: std::ops::Range<u16> = 3000..4000;

#[tauri::command]
pub async fn presets() -> Answer<Vec<Preset>> {
    Ok(crate::presets::presets())
}

/// The datasets that were imported into a market from this computer.
fn known(app: &App, market: &Chosen) -> Datasets {
    Datasets::in_folder(&app.home.market(&market.chain))
}

#[tauri::command]
pub async fn datasets(app: Pluto<'_>) -> Answer<Vec<Dataset>> {
    let market = app.market()?;
    Ok(known(&app, &market).read()?.into_iter().map(|(name, dataset)| shown(name, &dataset)).collect())
}

fn shown(name: String, dataset: &datasets::Dataset) -> Dataset {
    let splits = dataset.splits.iter().map(|(name, samples)| Split { name: name.clone(), samples: *samples });
    Dataset { name, manifest: dataset.manifest.to_string(), splits: splits.collect(), bytes: dataset.bytes }
}

#[tauri::command]
pub async fn import_dataset(app: Pluto<'_>, path: String, name: String, channel: Channel<ImportProgress>) -> Answer<Dataset> {
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > 64 || name.starts_with("blake3:") || name.chars().any(char::is_control) {
        return Err(CommandError::new(BAD_INPUT, "the dataset needs a name", "give one of at most 64 characters"));
    }
    if !Path::new(&path).exists() {
        return Err(CommandError::new(BAD_INPUT, format!("{path} isn't there"), "choose a file or a folder"));
    }
    let session = app.session()?;
    let (market, client) = app.checked().await?;
    let told: Mutex<Option<(Step, Instant)>> = Mutex::new(None);
    let tell = |step: Step, done_bytes: u64, total_bytes: u64| {
        let mut told = hold(&told);
        let now = Instant::now();
        let recent = told.is_some_and(|(before, at)| before == step && now.duration_since(at) < PROGRESS);
        if !recent || (total_bytes > 0 && done_bytes == total_bytes) {
            *told = Some((step, now));
            let _ = channel.send(ImportProgress { step: step.to_string(), done_bytes, total_bytes });
        }
    };
    let input = Input::One(PathBuf::from(&path));
    let imported = datasets::import(&client, &market.chain, &session.key, input, Options::new(&name), &tell).await?;
    known(&app, &market).add(&name, imported.dataset.clone())?;
    Ok(shown(name, &imported.dataset))
}

#[tauri::command]
pub async fn check_job(app: Pluto<'_>, toml: String) -> Answer<JobCheck> {
    let market = app.market()?;
    let known = known(&app, &market);
    let names = known.read()?.into_keys().collect();
    let mut check = JobCheck { problems: Vec::new(), fields: job_file::fields(&toml), quote: None, quote_error: None };
    match job_file::flaw(&toml, &names, None) {
        Some(flaw) => check.problems.push(flaw),
        None => match quote(&market, &toml, &known, &names).await {
            Ok(Ok(quote)) => check.quote = Some(quote),
            Ok(Err(flaw)) => check.problems.push(flaw),
            Err(error) => check.quote_error = Some(error),
        },
    }
    Ok(check)
}

/// What it would cost, or what only the market shows to be wrong: data that doesn't fit, a job that isn't there.
async fn quote(
    market: &Chosen,
    toml: &str,
    known: &Datasets,
    names: &BTreeSet<String>,
) -> Answer<Result<crate::view::Quote, SpecProblem>> {
    let client = market.checked().await?;
    let failure = match jobs::read_spec(&client, toml, known).await {
        Ok(spec) => return Ok(Ok(convert::quote(&jobs::quote(&client, &spec).await?))),
        Err(failure) => failure,
    };
    let error = CommandError::from(failure);
    if !SPEC_CODES.contains(&error.code) {
        return Err(error);
    }
    let message = if error.hint.is_empty() { error.message } else { format!("{}; {}", error.message, error.hint) };
    let unlocated = SpecProblem { line: None, message };
    let dataset = job_file::fields(toml).and_then(|fields| known.read().ok()?.remove(&fields.dataset));
    let Some(dataset) = dataset else { return Ok(Err(unlocated)) };
    let manifest = jobs::manifest_of(&client, dataset.manifest).await?;
    Ok(Err(job_file::flaw(toml, names, Some(&manifest)).unwrap_or(unlocated)))
}

#[tauri::command]
pub async fn edit_job(toml: String, fields: JobFields) -> Answer<String> {
    job_file::edit(&toml, &fields)
}

#[tauri::command]
pub async fn submit_job(app: Pluto<'_>, toml: String) -> Answer<String> {
    let session = app.session()?;
    let (market, client) = app.checked().await?;
    let spec = jobs::read_spec(&client, &toml, &known(&app, &market)).await?;
    Ok(jobs::submit(&client, &session.key, &spec).await?.to_string())
}

#[tauri::command]
pub async fn cancel_job(app: Pluto<'_>, job: JobId) -> Answer {
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    client.act(&session.key, Action::Cancel { job }).await?;
    Ok(())
}

#[tauri::command]
pub async fn watch_job(app: Pluto<'_>, job: JobId, channel: Channel<JobNews>) -> Answer {
    // From now on, so that a page that closes at once is heard.
    let (watch, stop) = (channel.id(), app.watch_job(channel.id())?);
    let begun = begin(&app, job).await;
    match begun {
        Ok((client, clock)) => {
            let app: Arc<App> = app.inner().clone();
            tokio::spawn(async move {
                follow::run(&app, client, clock, job, channel, stop).await;
                app.unwatch_job(watch);
            });
            Ok(())
        }
        Err(error) => {
            app.unwatch_job(watch);
            Err(error)
        }
    }
}

async fn begin(app: &App, job: JobId) -> Answer<(Client, SlotClock)> {
    let (market, client) = app.checked().await?;
    let clock = market.clock().await?;
    match client.job(job).await? {
        Some(_) => Ok((client, clock)),
        None => Err(follow::unknown(job)),
    }
}

#[tauri::command]
pub async fn unwatch_job(app: Pluto<'_>, watch: u32) -> Answer {
    app.unwatch_job(watch);
    Ok(())
}

/// What is known about a job's work.
#[tauri::command]
pub async fn verification(app: Pluto<'_>, job: JobId) -> Answer<Verification> {
    let (_, client) = app.checked().await?;
    let found = deepmarket_wallet::verification::fetch(&client, job).await?;
    let mut names = BTreeMap::new();
    for auditor in found.audits.iter().flat_map(|audit| &audit.auditors) {
        if !names.contains_key(&auditor.machine) {
            names.insert(auditor.machine, follow::machine_name(&app, &client, auditor.machine).await);
        }
    }
    let name = |machine: MachineId| names.get(&machine).cloned().unwrap_or_else(|| machine.to_string());
    Ok(convert::verification(&found, name))
}

#[tauri::command]
pub async fn save_result(app: Pluto<'_>, job: JobId, folder: String, evaluate: bool) -> Answer<SavedResult> {
    fetch_result(&app, job, Path::new(&folder), evaluate).await
}

#[tauri::command]
pub async fn evaluate_result(app: Pluto<'_>, job: JobId) -> Answer<SavedResult> {
    let folder = tempfile::tempdir().map_err(io("a temporary folder"))?;
    let result = fetch_result(&app, job, folder.path(), true).await?;
    Ok(SavedResult { folder: String::new(), files: Vec::new(), ..result })
}

async fn fetch_result(app: &App, job: JobId, folder: &Path, evaluate: bool) -> Answer<SavedResult> {
    let (market, _) = app.checked().await?;
    std::fs::create_dir_all(folder).map_err(io(folder.display()))?;
    let home = app.home.market(&market.chain);
    let mut arguments: Vec<OsString> = vec!["--home".into(), home.into(), "--gateway".into(), market.gateways().join(",").into()];
    arguments.extend(["job".into(), "result".into(), job.to_string().into(), "--out".into(), folder.into()]);
    if evaluate {
        arguments.push("--evaluate".into());
    }
    saved(folder, &app.runs.run(arguments, RESULT).await?)
}

/// What the program says that it wrote.
fn saved(folder: &Path, report: &Value) -> Answer<SavedResult> {
    let mut files = vec!["spec.toml".to_owned()];
    collect_files(folder, report, &mut files);
    files.sort();
    files.dedup();
    let evaluation = report.get("evaluation").unwrap_or(report);
    let number = |name: &str| report.get(name).or_else(|| evaluation.get(name)).and_then(Value::as_f64);
    let folder = folder.to_str().ok_or_else(|| bug("a folder whose name isn't text"))?;
    Ok(SavedResult { folder: folder.into(), files, accuracy: number("accuracy"), loss: number("loss") })
}

/// Every text that is a path in the folder.
fn collect_files(folder: &Path, value: &Value, files: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let name = Path::new(text).strip_prefix(folder).ok().filter(|name| !name.as_os_str().is_empty());
            files.extend(name.map(|name| name.display().to_string()));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_files(folder, value, files)),
        Value::Object(values) => values.values().for_each(|value| collect_files(folder, value, files)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_from_the_programs_report() {
        let report = serde_json::json!({
            "job": "job-1", "model": "/out/model.safetensors", "bytes": 9, "accuracy": 0.98, "loss": 0.1,
            "metrics": ["/out/metrics.csv", "/out/events.out.tfevents.1"], "python": "/out/model.py", "checkpoint_rounds": null,
        });
        let result = saved(Path::new("/out"), &report).unwrap();
        assert_eq!(result.files, ["events.out.tfevents.1", "metrics.csv", "model.py", "model.safetensors", "spec.toml"]);
        assert_eq!((result.accuracy, result.loss), (Some(0.98), Some(0.1)));
        let report = serde_json::json!({ "job": "job-2", "evaluation": { "loss": 0.2 }, "accuracy": null, "file": "/out/evaluation.json" });
        let result = saved(Path::new("/out"), &report).unwrap();
        assert_eq!((result.files.len(), result.accuracy, result.loss), (2, None, Some(0.2)));
    }
}
