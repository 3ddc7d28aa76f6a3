//! Training jobs: what they would cost, submitting, following, looking at them.

mod logs;
mod quote;
mod show;

pub use quote::{describe as describe_quote, quote};
pub use show::{describe, receipts_table};

use std::{fs, path::Path};

use deepmarket_api::{Client, JobView};
use deepmarket_job::{DatasetManifest, JobSpec};
use deepmarket_types::{AccountId, Action, Event, Hash, JobId, SecretKey};

use crate::{
    args::Job,
    error::{Failure, Outcome},
    output::credits,
    processes::stop_signal,
    settings::{Datasets, Settings},
    verbs::{follow, result},
};

pub async fn run(settings: &Settings, verb: Job) -> Outcome {
    match verb {
        Job::Quote { file } => quote::run(settings, &file).await,
        Job::Submit { file, follow } => submit_verb(settings, &file, follow).await,
        Job::Ls { all } => show::list(settings, all).await,
        Job::Show { job } => show::run(settings, job).await,
        Job::Logs { job, follow } => logs::run(settings, job, follow).await,
        Job::Cancel { job } => {
            let client = settings.client()?;
            client.act(&settings.signer()?, Action::Cancel { job }).await?;
            let job = fetch(&client, job).await?;
            settings.output.show(&job, || {
                let came_back = credits(job.budget.saturating_sub(job.paid));
                format!("{} is {}; {} were paid for work done, {came_back} came back", job.id, job.status, credits(job.paid))
            })?;
            if job.checkpoint.is_some() {
                settings.output.next(format!("deepmarket job result {} fetches its last checkpoint", job.id));
            } else {
                settings.output.next("deepmarket account history");
            }
            Ok(())
        }
        Job::Result { job, out, evaluate } => result::run(settings, job, &out, evaluate).await,
    }
}

/// Reads a job file; dataset names are those that `data add` gave.
pub fn read_spec(file: &Path, datasets: &Datasets) -> Outcome<JobSpec> {
    let known = datasets.read()?;
    parse_spec(file, &|name| known.get(name).map(|d| d.manifest))
}

/// Reads a job file whose dataset names are resolved by the caller.
pub fn parse_spec(file: &Path, resolve: &dyn Fn(&str) -> Option<Hash>) -> Outcome<JobSpec> {
    let text = fs::read_to_string(file).map_err(|e| Failure::user(format!("{}: {e}", file.display())))?;
    JobSpec::from_toml(&text, resolve).map_err(|e| Failure::user(format!("{}: {e}", file.display())).code(e.code()))
}

/// The job's dataset, from the market.
pub async fn manifest(client: &Client, spec: &JobSpec) -> Outcome<DatasetManifest> {
    let bytes = client.get_blob(spec.data.manifest, &|_| {}).await.map_err(|e| {
        Failure::from(e).hint("is the dataset in this market? `deepmarket data add <folder> --name <name>` brings it")
    })?;
    DatasetManifest::from_bytes(&bytes).map_err(|e| Failure::user(format!("the dataset's manifest: {e}")).code(e.code()))
}

/// Submits a job; gives its id.
pub async fn submit(client: &Client, owner: &SecretKey, spec: &JobSpec) -> Outcome<JobId> {
    let status = client.act(owner, Action::Borrow { spec: spec.to_bytes() }).await?;
    // The job's number is in the account's history, with the transaction that caused it.
    let id = AccountId::from_key(&owner.public());
    let entries = client.account_history(id, None, 50).await?;
    let job = entries.iter().filter(|e| e.transaction == Some(status.id)).find_map(|e| match e.event {
        Event::Job { job, .. } => Some(job),
        _ => None,
    });
    job.ok_or_else(|| Failure::bug(format!("transaction {} was accepted but caused no job", status.id)))
}

async fn submit_verb(settings: &Settings, file: &Path, follow: bool) -> Outcome {
    let client = settings.client()?;
    let spec = read_spec(file, &settings.datasets())?;
    let quote = quote(&client, &spec).await?;
    settings.output.say(describe_quote(&spec, &quote));
    let job = submit(&client, &settings.signer()?, &spec).await?;
    if follow {
        let stop = stop_signal(false)?;
        let ended = tokio::select! {
            ended = follow::until_closed(&client, job, settings.output) => ended?,
            () = stop.cancelled() => {
                settings.output.say(format!("{job} goes on without you"));
                settings.output.next(format!("deepmarket job logs {job} --follow"));
                return Ok(());
            }
        };
        settings.output.show(&ended, || describe(&ended))?;
        if let Some(next) = show::next(&ended) {
            settings.output.next(next);
        }
        return Ok(());
    }
    settings.output.show(&serde_json::json!({ "job": job }), || format!("{job} is submitted"))?;
    settings.output.next(format!("deepmarket job logs {job} --follow"));
    Ok(())
}

/// The job, or an error that says what to do.
pub async fn fetch(client: &Client, job: JobId) -> Outcome<JobView> {
    client
        .job(job)
        .await?
        .ok_or_else(|| Failure::user(format!("the market knows no {job}")).hint("deepmarket job ls --all").code(2020))
}
