use axum::{Json, extract::State};
use deepmarket_api::{Assignment, ErrorBody, MachineView};
use deepmarket_types::{AccountId, MachineId};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params},
    views,
};

/// The most machines of one listing.
const MAX_MACHINES: usize = 1_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnerParams {
    /// Only those of this account.
    #[param(value_type = Option<String>)]
    pub owner: Option<AccountId>,
}

/// Machines, at most 1000.
#[utoipa::path(get, path = "/v1/machines", tag = "machines", params(OwnerParams), responses(
    (status = 200, body = Vec<MachineView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn machines(
    State(app): State<App>,
    Params(params): Params<OwnerParams>,
) -> Result<Json<Vec<MachineView>>, Refusal> {
    let ledger = app.chain.ledger();
    Ok(Json(match params.owner {
        Some(owner) => ledger.machines_of(owner).take(MAX_MACHINES).map(views::machine).collect(),
        None => ledger.machines().take(MAX_MACHINES).map(views::machine).collect(),
    }))
}

/// A machine.
#[utoipa::path(get, path = "/v1/machines/{id}", tag = "machines", params(("id" = String, Path)), responses(
    (status = 200, body = MachineView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn machine(State(app): State<App>, Id(id): Id<MachineId>) -> Result<Json<MachineView>, Refusal> {
    let ledger = app.chain.ledger();
    ledger.machine(id).map(views::machine).map(Json).ok_or_else(|| Refusal::UnknownMachine(id.to_string()))
}

/// The active leases of a machine, with all that serving them needs.
#[utoipa::path(get, path = "/v1/machines/{id}/leases", tag = "machines", params(("id" = String, Path)), responses(
    (status = 200, body = Vec<Assignment>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn leases(State(app): State<App>, Id(id): Id<MachineId>) -> Result<Json<Vec<Assignment>>, Refusal> {
    let ledger = app.chain.ledger();
    ledger.machine(id).ok_or_else(|| Refusal::UnknownMachine(id.to_string()))?;
    Ok(Json(views::assignments(&ledger, id)))
}
