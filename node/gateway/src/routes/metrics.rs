use axum::{extract::State, http::header, response::IntoResponse};

use crate::app::App;

/// Numbers for Prometheus: chain, jobs, machines, resources, prices and credits as of the last block, and this gateway's
/// requests.
#[utoipa::path(get, path = "/metrics", tag = "market", responses(
    (status = 200, description = "Text in the format of OpenMetrics", body = String,
     content_type = "application/openmetrics-text"),
))]
pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let waiting = app.chain.waiting();
    // The ledger is released before anything is written.
    let chain = app.metrics.read(&app.chain.ledger());
    let headers = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (headers, app.metrics.text(&chain, waiting))
}
