use axum::{Json, extract::State};
use deepmarket_api::{ErrorBody, VoucherRequest, VoucherResponse};

use crate::{app::App, error::Refusal, extract::Parsed};

/// Asks this gateway's registrar for a voucher.
#[utoipa::path(post, path = "/v1/vouchers", tag = "accounts", request_body = VoucherRequest, responses(
    (status = 200, body = VoucherResponse), (status = "default", body = ErrorBody),
))]
pub(crate) async fn voucher(
    State(app): State<App>,
    Parsed(request): Parsed<VoucherRequest, 4096>,
) -> Result<Json<VoucherResponse>, Refusal> {
    let registrar = app.registrar.as_ref().ok_or(Refusal::NoRegistrar)?;
    let time = app.chain.ledger().time();
    let voucher = registrar.voucher(&app.chain_id, &request.identity, request.key, time)?;
    Ok(Json(VoucherResponse { voucher }))
}
