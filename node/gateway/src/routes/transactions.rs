use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use deepmarket_api::{ErrorBody, MAX_WAIT_MS, TransactionStatus};
use deepmarket_types::{Hash, Height, MAX_TRANSACTION_BYTES};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    chain::Chain,
    error::Refusal,
    extract::{Bounded, Id, Params},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitParams {
    /// How long to wait until it is in a block, in milliseconds, at most 30000.
    #[serde(default)]
    wait_ms: u64,
    /// `false` where it comes from another gateway: then it isn't given on.
    #[serde(default = "yes")]
    forward: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitParams {
    /// How long to wait until it is in a block, in milliseconds, at most 30000.
    #[serde(default)]
    wait_ms: u64,
}

fn wait(wait_ms: u64) -> Duration {
    Duration::from_millis(wait_ms.min(MAX_WAIT_MS))
}

/// Submits a signed transaction (its canonical bytes). The same one may be submitted again: it is applied once.
#[utoipa::path(post, path = "/v1/transactions", tag = "chain", params(SubmitParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It is in a block; `code` says what became of it", body = TransactionStatus),
        (status = 202, description = "It waits for a block", body = TransactionStatus),
        (status = "default", description = "Form, ledger or mempool refuse it", body = ErrorBody),
    ),
)]
pub(crate) async fn submit(
    State(app): State<App>,
    Params(params): Params<SubmitParams>,
    Bounded(bytes): Bounded<MAX_TRANSACTION_BYTES>,
) -> Result<Response, Refusal> {
    let before = app.chain.transaction(Hash::of(&bytes))?;
    let after = match before {
        Some(status) => match (status.height, status.code) {
            // It was in a block, and would be refused in every other one.
            (Some(_), Some(code)) if !Chain::may_come_again(code) => return Ok(answer(status, false)),
            (height, _) => height.unwrap_or_default(),
        },
        None => Height(0),
    };
    let id = app.chain.submit(&bytes, !params.forward)?;
    match app.chain.decided(id, after, wait(params.wait_ms)).await? {
        // It left the mempool undecided: by a block that made it impossible.
        None => Err(Refusal::UnknownTransaction(id.to_string())),
        Some(known) => Ok(answer(known, false)),
    }
}

/// What became of a transaction.
#[utoipa::path(get, path = "/v1/transactions/{id}", tag = "chain", params(("id" = String, Path), WaitParams), responses(
    (status = 200, description = "It is in a block", body = TransactionStatus),
    (status = 202, description = "It waits for a block", body = TransactionStatus),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn transaction(
    State(app): State<App>,
    Id(id): Id<Hash>,
    Params(params): Params<WaitParams>,
) -> Result<Response, Refusal> {
    match app.chain.decided(id, Height(0), wait(params.wait_ms)).await? {
        None => Err(Refusal::UnknownTransaction(id.to_string())),
        Some(known) => Ok(answer(known, true)),
    }
}

fn answer(mut status: TransactionStatus, whole: bool) -> Response {
    if !whole {
        status.transaction = None;
    }
    let code = if status.height.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    (code, Json(status)).into_response()
}
