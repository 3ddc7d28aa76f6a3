use axum::{Json, extract::State};
use deepmarket_api::{AccountView, ErrorBody, HistoryEntry};
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
