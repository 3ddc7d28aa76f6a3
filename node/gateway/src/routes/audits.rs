use std::cmp::Reverse;

use axum::{Json, extract::State};
use deepmarket_api::{AuditDuty, AuditView, ErrorBody, ReceiptView};
use deepmarket_ledger::Audit;
use deepmarket_types::{AuditId, JobId, MachineId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{accounts::HistoryParams, jobs::must_exist};
use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params},
    views,
};

/// The most audits of one listing.
const MAX_AUDITS: usize = 500;
/// The most receipts of one page: each is looked up in its block.
const MAX_RECEIPTS: usize = 100;

/// Which audits are listed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Which {
    /// Those that are not closed.
    #[default]
    Open,
    /// Those that validators judge.
    Judging,
    /// All.
    All,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditsParams {
    /// Which ones: `open` unless told.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    state: Which,
    /// Only those that were drawn before this one.
    #[param(value_type = Option<String>)]
    before: Option<AuditId>,
    /// At most so many, 500 at most and unless told.
    limit: Option<usize>,
}

/// Audits of all jobs, newest first.
#[utoipa::path(get, path = "/v1/audits", tag = "audits", params(AuditsParams), responses(
    (status = 200, body = Vec<AuditView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn audits(
    State(app): State<App>,
    Params(params): Params<AuditsParams>,
) -> Result<Json<Vec<AuditView>>, Refusal> {
    let ledger = app.chain.ledger();
    let limit = params.limit.unwrap_or(MAX_AUDITS).min(MAX_AUDITS);
    let later = |audit: &&Audit| params.before.is_some_and(|before| audit.id >= before);
    let view = |audit: &Audit| views::audits::audit(&ledger, audit);
    Ok(Json(match params.state {
        Which::All => ledger.audits().rev().skip_while(later).take(limit).map(view).collect(),
        Which::Open => newest_first(ledger.open_audits()).into_iter().skip_while(later).take(limit).map(view).collect(),
        Which::Judging => newest_first(ledger.judging()).into_iter().skip_while(later).take(limit).map(view).collect(),
    }))
}

fn newest_first<'a>(audits: impl Iterator<Item = &'a Audit>) -> Vec<&'a Audit> {
    let mut audits: Vec<&Audit> = audits.collect();
    audits.sort_unstable_by_key(|audit| Reverse(audit.id));
    audits
}

/// What validators' helpers have to do now: the steps in dispute.
#[utoipa::path(get, path = "/v1/audits/duties", tag = "audits", responses(
    (status = 200, body = Vec<AuditDuty>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn judging(State(app): State<App>) -> Json<Vec<AuditDuty>> {
    Json(views::audits::judging(&app.chain.ledger()))
}

/// An audit.
#[utoipa::path(get, path = "/v1/audits/{id}", tag = "audits", params(("id" = String, Path)), responses(
    (status = 200, body = AuditView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn audit(State(app): State<App>, Id(id): Id<AuditId>) -> Result<Json<AuditView>, Refusal> {
    let ledger = app.chain.ledger();
    let audit = ledger.audit(id).ok_or_else(|| Refusal::UnknownAudit(id.to_string()))?;
    Ok(Json(views::audits::audit(&ledger, audit)))
}

/// What a machine has to do in audits now, as a worker and as an auditor.
#[utoipa::path(get, path = "/v1/machines/{id}/audits", tag = "machines", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<AuditDuty>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn duties(State(app): State<App>, Id(id): Id<MachineId>) -> Result<Json<Vec<AuditDuty>>, Refusal> {
    let ledger = app.chain.ledger();
    ledger.machine(id).ok_or_else(|| Refusal::UnknownMachine(id.to_string()))?;
    Ok(Json(views::audits::duties(&ledger, id)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobAuditsParams {
    /// Only those that were drawn after this one.
    #[param(value_type = Option<String>)]
    after: Option<AuditId>,
    /// At most so many, 500 at most and unless told.
    limit: Option<usize>,
}

/// The audits of a job, in the order in which they were drawn.
#[utoipa::path(get, path = "/v1/jobs/{id}/audits", tag = "jobs", params(("id" = String, Path), JobAuditsParams), responses(
    (status = 200, body = Vec<AuditView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn of_job(
    State(app): State<App>,
    Id(id): Id<JobId>,
    Params(params): Params<JobAuditsParams>,
) -> Result<Json<Vec<AuditView>>, Refusal> {
    must_exist(&app, id)?;
    let ledger = app.chain.ledger();
    let limit = params.limit.unwrap_or(MAX_AUDITS).min(MAX_AUDITS);
    let told = |audit: &&Audit| params.after.is_some_and(|after| audit.id <= after);
    let view = |audit: &Audit| views::audits::audit(&ledger, audit);
    Ok(Json(ledger.audits_of_job(id).skip_while(told).take(limit).map(view).collect()))
}

/// The receipts of a job that the chain accepted, newest first: what its workers committed to, and what is held for it. A page
/// has at most 100; the last one is empty.
#[utoipa::path(get, path = "/v1/jobs/{id}/receipts", tag = "jobs", params(("id" = String, Path), HistoryParams), responses(
    (status = 200, body = Vec<ReceiptView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn receipts(
    State(app): State<App>,
    Id(id): Id<JobId>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<Vec<ReceiptView>>, Refusal> {
    must_exist(&app, id)?;
    let read = move || app.chain.receipts(id, params.place(), params.limit().clamp(1, MAX_RECEIPTS));
    super::blocking(read).await?.map(Json)
}
