use axum::{Json, extract::State};
use deepmarket_api::{ErrorBody, Network, Peer, Status};

use crate::{app::App, error::Refusal};

/// How the market and this gateway stand.
#[utoipa::path(get, path = "/v1/status", tag = "market", responses(
    (status = 200, body = Status), (status = "default", body = ErrorBody),
))]
pub(crate) async fn status(State(app): State<App>) -> Json<Status> {
    let mempool = app.chain.waiting();
    let ledger = app.chain.ledger();
    let state_root = app.chain.state_root();
    Json(Status {
        name: app.market.clone(),
        chain: app.chain_id,
        height: ledger.height(),
        time: ledger.time(),
        block: ledger.tip(),
        state_root,
        validator: app.validator.clone(),
        validators: ledger.validators().len() as u32,
        mempool,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The genesis document, as TOML.
#[utoipa::path(get, path = "/v1/genesis", tag = "market", responses(
    (status = 200, body = String, content_type = "text/plain"), (status = "default", body = ErrorBody),
))]
pub(crate) async fn genesis(State(app): State<App>) -> String {
    app.genesis.clone()
}

/// Where data is to be had, and how often the market wants to hear of machines.
#[utoipa::path(get, path = "/v1/network", tag = "market", responses(
    (status = 200, body = Network), (status = "default", body = ErrorBody),
))]
pub(crate) async fn network(State(app): State<App>) -> Result<Json<Network>, Refusal> {
    let ledger = app.chain.ledger();
    Ok(Json(Network {
        peer: Peer { peer_id: app.net.peer_id(), addresses: app.net.addresses() },
        gateways: app.gateways.clone(),
        heartbeat_ms: ledger.params().heartbeat_ms,
        receipt_ms: ledger.params().receipt_ms,
    }))
}
