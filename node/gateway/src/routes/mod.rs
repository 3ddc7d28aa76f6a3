//! The routes, in one table: the router is built from it, and a test compares it with the OpenAPI document.

mod accounts;
mod audits;
mod blobs;
mod blocks;
mod events;
mod explorer;
mod jobs;
mod machines;
mod market;
mod metrics;
mod status;
mod transactions;
mod vouchers;

use axum::routing::{MethodRouter, get, head, post, put};
use utoipa::OpenApi;

use crate::{app::App, error::Refusal};

/// How a route is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Answers in seconds.
    Ordinary,
    /// Moves large bodies.
    Bulk,
    /// Goes on until one side ends it.
    Stream,
}

/// One method of one path.
pub(crate) struct Route {
    /// What the test compares with the document; the handler knows it by itself.
    #[cfg_attr(not(test), expect(dead_code))]
    pub method: &'static str,
    pub path: &'static str,
    pub lane: Lane,
    pub handler: MethodRouter<App>,
}

/// All routes.
pub(crate) fn table() -> Vec<Route> {
    use Lane::{Bulk, Ordinary, Stream};
    let rows: Vec<(&'static str, &'static str, Lane, MethodRouter<App>)> = vec![
        ("get", "/v1/status", Ordinary, get(status::status)),
        ("get", "/v1/genesis", Ordinary, get(status::genesis)),
        ("get", "/v1/network", Ordinary, get(status::network)),
        ("get", "/v1/openapi.json", Ordinary, get(openapi)),
        ("post", "/v1/transactions", Ordinary, post(transactions::submit)),
        ("get", "/v1/transactions/{id}", Ordinary, get(transactions::transaction)),
        ("get", "/v1/blocks", Ordinary, get(blocks::blocks)),
        ("get", "/v1/blocks/{height}", Ordinary, get(blocks::block)),
        ("get", "/v1/blocks/raw", Bulk, get(blocks::raw)),
        ("get", "/v1/accounts", Ordinary, get(accounts::accounts)),
        ("get", "/v1/accounts/{id}", Ordinary, get(accounts::account)),
        ("get", "/v1/accounts/by-key/{key}", Ordinary, get(accounts::by_key)),
        ("get", "/v1/accounts/{id}/history", Ordinary, get(accounts::history)),
        ("get", "/v1/accounts/{id}/estimate", Ordinary, get(accounts::estimate)),
        ("get", "/v1/accounts/{id}/days", Ordinary, get(accounts::days)),
        ("get", "/v1/accounts/{id}/statement", Ordinary, get(accounts::statement)),
        ("get", "/v1/machines", Ordinary, get(machines::machines)),
        ("get", "/v1/machines/{id}", Ordinary, get(machines::machine)),
        ("get", "/v1/machines/{id}/leases", Ordinary, get(machines::leases)),
        ("get", "/v1/machines/{id}/audits", Ordinary, get(audits::duties)),
        ("get", "/v1/invites/{code}", Ordinary, get(machines::invite)),
        ("get", "/v1/jobs", Ordinary, get(jobs::jobs)),
        ("get", "/v1/jobs/{id}", Ordinary, get(jobs::job)),
        ("get", "/v1/jobs/{id}/history", Ordinary, get(jobs::history)),
        ("get", "/v1/jobs/{id}/audits", Ordinary, get(audits::of_job)),
        ("get", "/v1/jobs/{id}/receipts", Ordinary, get(audits::receipts)),
        ("get", "/v1/jobs/{id}/progress", Ordinary, get(jobs::progress)),
        ("post", "/v1/jobs/{id}/progress", Ordinary, post(jobs::report)),
        ("get", "/v1/jobs/{id}/events", Stream, get(events::job)),
        ("get", "/v1/events", Stream, get(events::blocks)),
        ("get", "/v1/audits", Ordinary, get(audits::audits)),
        ("get", "/v1/audits/duties", Ordinary, get(audits::judging)),
        ("get", "/v1/audits/{id}", Ordinary, get(audits::audit)),
        ("post", "/v1/quotes", Ordinary, post(market::quote)),
        ("post", "/v1/evaluations", Ordinary, post(market::evaluate)),
        ("get", "/v1/prices", Ordinary, get(market::prices)),
        ("get", "/v1/ledger", Ordinary, get(market::ledger)),
        ("get", "/v1/blobs", Ordinary, get(blobs::list)),
        ("get", "/v1/blobs/{hash}", Bulk, get(blobs::fetch)),
        ("head", "/v1/blobs/{hash}", Bulk, head(blobs::has)),
        ("put", "/v1/blobs/{hash}", Bulk, put(blobs::store)),
        ("post", "/v1/vouchers", Ordinary, post(vouchers::voucher)),
        ("get", "/metrics", Ordinary, get(metrics::metrics)),
        ("get", "/", Ordinary, get(explorer::root)),
        ("get", "/explorer", Ordinary, get(explorer::page)),
        ("get", "/explorer/{file}", Ordinary, get(explorer::file)),
    ];
    rows.into_iter().map(|(method, path, lane, handler)| Route { method, path, lane, handler }).collect()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "DeepMarket gateway",
        description = "A marketplace for machine-learning compute. Writes are signed transactions: there are no sessions. \
                       Amounts are microcredits, times are milliseconds since 1970 in UTC. Every error has an ErrorBody; \
                       with status 429 and 503 the header Retry-After says after how many seconds to try again.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        status::status,
        status::genesis,
        status::network,
        openapi,
        transactions::submit,
        transactions::transaction,
        blocks::blocks,
        blocks::block,
        blocks::raw,
        accounts::accounts,
        accounts::account,
        accounts::by_key,
        accounts::history,
        accounts::estimate,
        accounts::days,
        accounts::statement,
        machines::machines,
        machines::machine,
        machines::leases,
        audits::duties,
        machines::invite,
        jobs::jobs,
        jobs::job,
        jobs::history,
        audits::of_job,
        audits::receipts,
        jobs::progress,
        jobs::report,
        events::job,
        events::blocks,
        audits::audits,
        audits::judging,
        audits::audit,
        market::quote,
        market::evaluate,
        market::prices,
        market::ledger,
        blobs::list,
        blobs::fetch,
        blobs::has,
        blobs::store,
        vouchers::voucher,
        metrics::metrics,
        explorer::root,
        explorer::page,
        explorer::file,
    ),
    components(schemas(deepmarket_api::JobEvent, deepmarket_api::BlockEvent, deepmarket_api::Progress))
)]
struct Document;

/// The OpenAPI document as it is served and committed.
pub(crate) fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("the document is plain data");
    text.push('\n');
    text
}

/// Runs what blocks (disk) where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Refusal::Internal(e.to_string()))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "market", responses((status = 200, description = "OpenAPI", body = Object)))]
async fn openapi() -> impl axum::response::IntoResponse {
    ([("content-type", "application/json")], document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_exactly_the_routes_that_are_served() {
        let served: BTreeSet<String> = table().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let document: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
            .collect();
        assert_eq!(served, documented);
    }

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/openapi.json");
        if std::env::var_os("DEEPMARKET_RENEW_OPENAPI").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == document(),
            "node/api/openapi.json is out of date; run: DEEPMARKET_RENEW_OPENAPI=1 cargo test --release -p deepmarket-gateway \
             the_committed_document"
        );
    }
}
