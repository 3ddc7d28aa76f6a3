use axum::{Json, extract::State};
use deepmarket_api::{ErrorBody, LedgerView, PricesView, Quote, QuoteRequest};
use deepmarket_job::JobSpec;

use crate::{app::App, error::Refusal, extract::Parsed, views};

/// A spec of 64 KiB in hex, and what is around it.
const MAX_QUOTE_BYTES: usize = 160 * 1024;

/// What a job would cost and when it would run. Promises nothing and costs nothing.
#[utoipa::path(post, path = "/v1/quotes", tag = "market", request_body = QuoteRequest, responses(
    (status = 200, body = Quote), (status = "default", body = ErrorBody),
))]
pub(crate) async fn quote(
    State(app): State<App>,
    Parsed(request): Parsed<QuoteRequest, MAX_QUOTE_BYTES>,
) -> Result<Json<Quote>, Refusal> {
    let bytes = hex::decode(&request.spec).map_err(|e| Refusal::BadRequest(format!("spec isn't hex: {e}")))?;
    let spec = JobSpec::from_bytes(&bytes)?;
    let size = spec.check()?;
    let ledger = app.chain.ledger();
    Ok(Json(views::quote(ledger.quote(&spec, &size, request.train_samples, request.validate_samples))))
}

/// Today's prices.
#[utoipa::path(get, path = "/v1/prices", tag = "market", responses(
    (status = 200, body = PricesView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn prices(State(app): State<App>) -> Json<PricesView> {
    Json(views::prices(&app.chain.ledger()))
}

/// The ledger's totals, and whether they agree.
#[utoipa::path(get, path = "/v1/ledger", tag = "market", responses(
    (status = 200, body = LedgerView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn ledger(State(app): State<App>) -> Json<LedgerView> {
    Json(views::totals(&app.chain.ledger()))
}
