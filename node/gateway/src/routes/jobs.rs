use axum::{Json, extract::State, http::StatusCode};
use deepmarket_api::{ErrorBody, HistoryEntry, JobView, MAX_PROGRESS_BYTES, Progress, ProgressBatch, progress_content};
use deepmarket_ledger::Job;
use deepmarket_types::{AccountId, Domain, JobId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::accounts::HistoryParams;
use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params, Parsed},
    progress::MAX_ENTRIES,
    views,
};

/// The most jobs of one listing.
const MAX_JOBS: usize = 100;
/// A batch as JSON: its entries, which are JSON inside a text and so may double, and what is around them.
const MAX_BATCH_BYTES: usize = 2 * MAX_PROGRESS_BYTES + 4096;
/// The most entries of one batch.
const MAX_BATCH_ENTRIES: usize = 2_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsParams {
    /// Only those of this account.
    #[param(value_type = Option<String>)]
    owner: Option<AccountId>,
    /// Only those that were submitted before this one.
    #[param(value_type = Option<String>)]
    before: Option<JobId>,
    /// At most so many, 100 at most and unless told.
    limit: Option<usize>,
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(JobsParams), responses(
    (status = 200, body = Vec<JobView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn jobs(State(app): State<App>, Params(params): Params<JobsParams>) -> Result<Json<Vec<JobView>>, Refusal> {
    let limit = params.limit.unwrap_or(MAX_JOBS).min(MAX_JOBS);
    let ledger = app.chain.ledger();
    let later = |job: &&Job| params.before.is_some_and(|before| job.id >= before);
    let view = |job: &Job| views::job(&ledger, job);
    Ok(Json(match params.owner {
        Some(owner) => ledger.jobs_of(owner).rev().skip_while(later).take(limit).map(view).collect(),
        None => ledger.jobs().rev().skip_while(later).take(limit).map(view).collect(),
    }))
}

/// A job.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, body = JobView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn job(State(app): State<App>, Id(id): Id<JobId>) -> Result<Json<JobView>, Refusal> {
    let ledger = app.chain.ledger();
    let job = ledger.job(id).ok_or_else(|| Refusal::UnknownJob(id.to_string()))?;
    Ok(Json(views::job(&ledger, job)))
}

pub(super) fn must_exist(app: &App, id: JobId) -> Result<(), Refusal> {
    app.chain.ledger().job(id).map(|_| ()).ok_or_else(|| Refusal::UnknownJob(id.to_string()))
}

/// What happened to a job, newest first.
#[utoipa::path(get, path = "/v1/jobs/{id}/history", tag = "jobs", params(("id" = String, Path), HistoryParams), responses(
    (status = 200, body = Vec<HistoryEntry>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn history(
    State(app): State<App>,
    Id(id): Id<JobId>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<Vec<HistoryEntry>>, Refusal> {
    must_exist(&app, id)?;
    let read = move || app.chain.job_history(id, params.place(), params.limit());
    super::blocking(read).await?.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProgressParams {
    /// Only the entries after this many of this gateway's list.
    #[serde(default)]
    after: usize,
}

/// What a job's workers reported to this gateway, in the order in which it came.
#[utoipa::path(get, path = "/v1/jobs/{id}/progress", tag = "jobs", params(("id" = String, Path), ProgressParams), responses(
    (status = 200, body = Vec<Progress>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn progress(
    State(app): State<App>,
    Id(id): Id<JobId>,
    Params(params): Params<ProgressParams>,
) -> Result<Json<Vec<Progress>>, Refusal> {
    must_exist(&app, id)?;
    let read = move || Ok::<_, Refusal>(app.progress.log(id)?.after(params.after, MAX_ENTRIES));
    super::blocking(read).await?.map(Json)
}

/// Reports progress: a batch that is signed by a machine with a lease of the job. Entries that are known are passed over.
#[utoipa::path(post, path = "/v1/jobs/{id}/progress", tag = "jobs", params(("id" = String, Path)),
    request_body = ProgressBatch,
    responses((status = 204, description = "It is kept"), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn report(
    State(app): State<App>,
    Id(id): Id<JobId>,
    Parsed(batch): Parsed<ProgressBatch, MAX_BATCH_BYTES>,
) -> Result<StatusCode, Refusal> {
    if batch.entries.len() > MAX_PROGRESS_BYTES {
        return Err(Refusal::TooLarge { limit: MAX_PROGRESS_BYTES as u64 });
    }
    must_exist(&app, id)?;
    let stranger = || Refusal::NotItsJob { machine: batch.machine.to_string(), job: id.to_string() };
    let (key, ranks): (_, Vec<u32>) = {
        let ledger = app.chain.ledger();
        let machine = ledger.machine(batch.machine).ok_or_else(stranger)?;
        let leases = ledger.job_leases(id).filter(|lease| lease.machine == batch.machine);
        (machine.key, leases.map(|lease| lease.rank).collect())
    };
    if ranks.is_empty() {
        return Err(stranger());
    }
    key.verify(Domain::Request, &app.chain_id, &progress_content(id, &batch.entries), &batch.signature)?;
    let entries: Vec<Progress> = serde_json::from_str(&batch.entries).map_err(|e| Refusal::BadProgress(e.to_string()))?;
    if entries.len() > MAX_BATCH_ENTRIES {
        return Err(Refusal::BadProgress(format!("a batch has at most {MAX_BATCH_ENTRIES} entries")));
    }
    if let Some(entry) = entries.iter().find(|entry| !ranks.contains(&entry.rank)) {
        return Err(Refusal::BadProgress(format!("rank {} is another machine's", entry.rank)));
    }
    super::blocking(move || app.progress.log(id)?.add(entries)).await??;
    Ok(StatusCode::NO_CONTENT)
}
