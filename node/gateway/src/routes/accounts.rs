use axum::{Json, extract::State};
use deepmarket_api::{AccountView, DayEntry, ErrorBody, EstimateView, HistoryEntry, Statement};
use deepmarket_types::{AccountId, Height, PublicKey};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params, Place},
    views,
};

/// The most entries of one page of history.
const MAX_ENTRIES: usize = 500;
/// The most accounts of one listing.
const MAX_ACCOUNTS: usize = 100;
/// The most days of one answer.
const MAX_DAYS: u64 = 366;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AccountsParams {
    /// Only those after this one.
    #[param(value_type = Option<String>)]
    after: Option<AccountId>,
    /// At most so many, 100 at most and unless told.
    limit: Option<usize>,
}

/// Accounts, by id.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(AccountsParams), responses(
    (status = 200, body = Vec<AccountView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn accounts(State(app): State<App>, Params(params): Params<AccountsParams>) -> Json<Vec<AccountView>> {
    let ledger = app.chain.ledger();
    let listed = ledger.accounts().skip_while(|account| params.after.is_some_and(|after| account.id <= after));
    let limit = params.limit.unwrap_or(MAX_ACCOUNTS).min(MAX_ACCOUNTS);
    Json(listed.take(limit).map(|account| views::account(&ledger, account)).collect())
}

/// An account by its id.
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "accounts", params(("id" = String, Path)), responses(
    (status = 200, body = AccountView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn account(State(app): State<App>, Id(id): Id<AccountId>) -> Result<Json<AccountView>, Refusal> {
    let ledger = app.chain.ledger();
    let account = ledger.account(id).ok_or_else(|| Refusal::UnknownAccount(id.to_string()))?;
    Ok(Json(views::account(&ledger, account)))
}

/// An account by its present key.
#[utoipa::path(get, path = "/v1/accounts/by-key/{key}", tag = "accounts", params(("key" = String, Path)), responses(
    (status = 200, body = AccountView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn by_key(State(app): State<App>, Id(key): Id<PublicKey>) -> Result<Json<AccountView>, Refusal> {
    let ledger = app.chain.ledger();
    let account = ledger.account_of_key(&key).ok_or_else(|| Refusal::UnknownAccount(format!("with the key {key}")))?;
    Ok(Json(views::account(&ledger, account)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Only what came before this place, written `height-index`, as the last entry of the page before says.
    #[param(value_type = Option<String>)]
    before: Option<Place>,
    /// At most so many, 100 unless told, 500 at most.
    limit: Option<usize>,
}

impl HistoryParams {
    pub(super) fn place(&self) -> Option<(Height, u32)> {
        self.before.map(|Place(height, index)| (Height(height), index))
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(100).min(MAX_ENTRIES)
    }
}

/// What happened to an account, newest first: why its balance is what it is.
#[utoipa::path(get, path = "/v1/accounts/{id}/history", tag = "accounts", params(("id" = String, Path), HistoryParams), responses(
    (status = 200, body = Vec<HistoryEntry>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn history(
    State(app): State<App>,
    Id(id): Id<AccountId>,
    Params(params): Params<HistoryParams>,
) -> Result<Json<Vec<HistoryEntry>>, Refusal> {
    if app.chain.ledger().account(id).is_none() {
        return Err(Refusal::UnknownAccount(id.to_string()));
    }
    let read = move || app.chain.account_history(id, params.place(), params.limit());
    super::blocking(read).await?.map(Json)
}

/// What an account may expect of the next 24 hours (of the market's day: four slots).
#[utoipa::path(get, path = "/v1/accounts/{id}/estimate", tag = "accounts", params(("id" = String, Path)), responses(
    (status = 200, body = EstimateView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn estimate(State(app): State<App>, Id(id): Id<AccountId>) -> Result<Json<EstimateView>, Refusal> {
    let ledger = app.chain.ledger();
    ledger.account(id).ok_or_else(|| Refusal::UnknownAccount(id.to_string()))?;
    Ok(Json(views::estimate(ledger.estimate(id))))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DaysParams {
    /// So many days up to today's, 30 unless told, 366 at most.
    days: Option<u64>,
}

/// What an account's machines earned and its jobs cost on each of the last days, newest first.
#[utoipa::path(get, path = "/v1/accounts/{id}/days", tag = "accounts", params(("id" = String, Path), DaysParams), responses(
    (status = 200, body = Vec<DayEntry>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn days(
    State(app): State<App>,
    Id(id): Id<AccountId>,
    Params(params): Params<DaysParams>,
) -> Result<Json<Vec<DayEntry>>, Refusal> {
    let today = {
        let ledger = app.chain.ledger();
        ledger.account(id).ok_or_else(|| Refusal::UnknownAccount(id.to_string()))?;
        ledger.params().slots.slot_at(ledger.time()).0
    };
    let after = today.saturating_add(1).saturating_sub(params.days.unwrap_or(30).min(MAX_DAYS));
    let read = move || {
        let sums = app.chain.days(id, after)?;
        Ok(Json(views::days(&app.chain.ledger(), sums)))
    };
    super::blocking(read).await?
}

/// Why an account's balance is what it is: the sums of its whole history by what caused them.
#[utoipa::path(get, path = "/v1/accounts/{id}/statement", tag = "accounts", params(("id" = String, Path)), responses(
    (status = 200, body = Statement), (status = "default", body = ErrorBody),
))]
pub(crate) async fn statement(State(app): State<App>, Id(id): Id<AccountId>) -> Result<Json<Statement>, Refusal> {
    let read = move || {
        let ledger = app.chain.ledger();
        let account = ledger.account(id).ok_or_else(|| Refusal::UnknownAccount(id.to_string()))?;
        Ok(Json(views::statement(&ledger, account, app.chain.statement(id)?)))
    };
    super::blocking(read).await?
}
