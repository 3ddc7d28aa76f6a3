use axum::{Json, extract::State};
use deepmarket_api::{ErrorBody, EvaluationRequest, EvaluationView, LedgerView, PricesView, Quote, QuoteRequest};
use deepmarket_job::JobSpec;

use crate::{app::App, error::Refusal, extract::Parsed, views};

/// A spec of 64 KiB in hex, and what is around it.
const MAX_QUOTE_BYTES: usize = 160 * 1024;
/// An offer and a configuration with five texts of 80 characters are 2 KiB of JSON.
const MAX_EVALUATION_BYTES: usize = 8 * 1024;

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

/// Whether an offer is legitimate, and what it would earn in the next four slots. Promises nothing and changes nothing.
#[utoipa::path(post, path = "/v1/evaluations", tag = "market", request_body = EvaluationRequest, responses(
    (status = 200, description = "`refused` says why the ledger would refuse the offer", body = EvaluationView),
    (status = "default", description = "No offer at all: hours or weekdays that are none, unprintable text", body = ErrorBody),
))]
pub(crate) async fn evaluate(
    State(app): State<App>,
    Parsed(request): Parsed<EvaluationRequest, MAX_EVALUATION_BYTES>,
) -> Result<Json<EvaluationView>, Refusal> {
    request.offer.availability.check()?;
    request.config.as_ref().map_or(Ok(()), |config| config.check())?;
    Ok(Json(views::evaluation(&app.chain.ledger(), &request)))
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
