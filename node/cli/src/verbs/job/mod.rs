//! Training jobs: what they would cost, submitting, following, looking at them.

mod logs;
mod metrics;
mod quote;
pub mod record;
mod show;

pub use quote::{describe as describe_quote, quote};
pub use show::{describe, receipts_table};

use std::{cell::Cell, fs, path::Path};

use deepmarket_api::{Client, HistoryEntry, JobView};
use deepmarket_job::{DatasetManifest, JobSpec, Kind, Name, Resolve};
use deepmarket_types::{AccountId, Action, Event, Hash, JobId, SecretKey};
use record::Record;

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
        Job::Metrics { job, follow, csv } => metrics::run(settings, job, follow, csv).await,
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

/// Reads a job file; names of datasets are those that `data add` gave, and jobs are the market's.
pub async fn read_spec(client: &Client, file: &Path, datasets: &Datasets) -> Outcome<JobSpec> {
    let known = datasets.read()?;
    let dataset = |name: &str| known.get(name).map(|d| d.manifest);
    // The first reading tells which job is named.
    let named = Cell::new(None);
    let spec = parse_spec(file, &|name| match name {
        Name::Dataset(name) => dataset(name),
        Name::Job(job) => {
            named.set(Some(job));
            Some(Hash::default())
        }
    })?;
    let Some(job) = named.get() else { return Ok(spec) };
    let model = result::model_of(client, job).await?;
    parse_spec(file, &|name| match name {
        Name::Dataset(name) => dataset(name),
        Name::Job(_) => Some(model),
    })
}

/// Reads a job file whose names are resolved by the caller.
pub fn parse_spec(file: &Path, resolve: Resolve) -> Outcome<JobSpec> {
    let text = fs::read_to_string(file).map_err(|e| Failure::user(format!("{}: {e}", file.display())))?;
    JobSpec::from_toml(&text, resolve).map_err(|e| Failure::user(format!("{}: {e}", file.display())).code(e.code()))
}

/// What a job does. One whose spec this release can't read counts as training.
pub fn kind_of(job: &JobView) -> Kind {
    JobSpec::from_toml(&job.spec, &|_| None).map_or(Kind::Train, |spec| spec.kind)
}

/// What is known of a job's work.
pub struct Known {
    /// What its workers reported.
    pub record: Record,
    /// What the chain tells of its workers, oldest first.
    pub workers: Vec<HistoryEntry>,
}

/// What all gateways together know of a job's work.
pub async fn known(client: &Client, job: JobId) -> Outcome<Known> {
    let record = Record::of(client.all_progress(job).await?);
    let mut workers = history(client, job).await?;
    workers.retain(|entry| matches!(entry.event, Event::Lease { .. } | Event::Members { .. }));
    Ok(Known { record, workers })
}

/// All events of a job, oldest first.
pub async fn history(client: &Client, job: JobId) -> Outcome<Vec<HistoryEntry>> {
    let mut all: Vec<HistoryEntry> = Vec::new();
    loop {
        let before = all.last().map(|entry| (entry.height, entry.index));
        let page = client.job_history(job, before, 500).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    all.reverse();
    Ok(all)
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
    let spec = read_spec(&client, file, &settings.datasets()).await?;
    let quote = quote(&client, &spec).await?;
    settings.output.say(describe_quote(&spec, &quote));
    let job = submit(&client, &settings.signer()?, &spec).await?;
    if follow {
        let stop = stop_signal(false)?;
        let ended = tokio::select! {
            ended = follow::until_closed(&client, job, settings.output) => ended?,
            () = stop.cancelled() => {
                settings.output.show(&serde_json::json!({ "job": job }), || format!("{job} goes on without you"))?;
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
