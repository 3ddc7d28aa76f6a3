//! Training jobs: what they would cost, submitting, following, looking at them.

mod logs;
mod metrics;
mod quote;
pub mod record;
mod show;
mod verify;

pub use quote::describe as describe_quote;
pub use show::{describe, receipts_table};
pub use verify::wait as wait_for_audits;

use std::{fs, path::Path};

use deepmarket_api::{Client, HistoryEntry};
use deepmarket_job::{JobSpec, Resolve};
use deepmarket_types::{Action, Event, JobId};
use deepmarket_wallet::{datasets::Datasets, jobs};
use record::Record;

use crate::{
    args::Job,
    error::{Failure, Outcome},
    output::credits,
    processes::stop_signal,
    settings::Settings,
    verbs::{follow, result},
};

pub async fn run(settings: &Settings, verb: Job) -> Outcome {
    match verb {
        Job::Quote { file, audit } => quote::run(settings, &file, audit).await,
        Job::Submit { file, audit, follow } => submit_verb(settings, &file, audit, follow).await,
        Job::Ls { all } => show::list(settings, all).await,
        Job::Show { job } => show::run(settings, job).await,
        Job::Logs { job, follow } => logs::run(settings, job, follow).await,
        Job::Metrics { job, follow, csv } => metrics::run(settings, job, follow, csv).await,
        Job::Verify { job, wait } => verify::run(settings, job, wait).await,
        Job::Cancel { job } => {
            let client = settings.client()?;
            client.act(&settings.signer()?, Action::Cancel { job }).await?;
            let job = jobs::fetch(&client, job).await?;
            settings.output.show(&job, || {
                let spent = [job.paid, job.fees].into_iter().sum();
                let fees = if job.fees.is_zero() { String::new() } else { format!(" and {} for audits", credits(job.fees)) };
                let came_back = credits(job.budget.saturating_sub(spent));
                format!(
                    "{} is {}; {} were paid for work done{fees}, {came_back} came back",
                    job.id,
                    job.status,
                    credits(job.paid)
                )
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
/// `audit` is the audit rate that is wanted whatever the file says, in percent.
async fn read_spec(client: &Client, file: &Path, datasets: &Datasets, audit: Option<u8>) -> Outcome<JobSpec> {
    let text = text_of(file)?;
    let mut spec = jobs::read_spec(client, &text, datasets).await.map_err(|failure| about_spec(failure, file))?;
    if let Some(percent) = audit {
        spec.budget.audit_percent = percent;
    }
    Ok(spec)
}

/// Reads a job file whose names are resolved by the caller.
pub fn parse_spec(file: &Path, resolve: Resolve) -> Outcome<JobSpec> {
    jobs::parse(&text_of(file)?, resolve, None).map_err(|failure| about_spec(failure, file))
}

fn text_of(file: &Path) -> Outcome<String> {
    fs::read_to_string(file).map_err(|e| Failure::user(format!("{}: {e}", file.display())))
}

/// Names the file where what is wrong is in it.
fn about_spec(failure: Failure, file: &Path) -> Failure {
    if (3000..4000).contains(&failure.code()) { failure.about(file.display()) } else { failure }
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
    let mut workers = jobs::history(client, job).await?;
    workers.retain(|entry| matches!(entry.event, Event::Lease { .. } | Event::Members { .. }));
    Ok(Known { record, workers })
}

async fn submit_verb(settings: &Settings, file: &Path, audit: Option<u8>, follow: bool) -> Outcome {
    let client = settings.client()?;
    let spec = read_spec(&client, file, &settings.datasets(), audit).await?;
    let quote = jobs::quote(&client, &spec).await?;
    settings.output.say(describe_quote(&spec, &quote));
    let job = jobs::submit(&client, &settings.signer()?, &spec).await?;
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
