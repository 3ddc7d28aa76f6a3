use axum::{Json, extract::State};
use deepmarket_api::{Assignment, ErrorBody, InviteView, MachineView};
use deepmarket_ledger::Machine;
use deepmarket_types::{AccountId, MachineId, PublicKey};
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
pub(crate) struct MachinesParams {
    /// Only those of this account.
    #[param(value_type = Option<String>)]
    owner: Option<AccountId>,
    /// Only those after this one.
    #[param(value_type = Option<String>)]
    after: Option<MachineId>,
    /// At most so many, 1000 at most and unless told.
    limit: Option<usize>,
}

/// Machines, by id.
#[utoipa::path(get, path = "/v1/machines", tag = "machines", params(MachinesParams), responses(
    (status = 200, body = Vec<MachineView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn machines(
    State(app): State<App>,
    Params(params): Params<MachinesParams>,
) -> Result<Json<Vec<MachineView>>, Refusal> {
    let ledger = app.chain.ledger();
    let limit = params.limit.unwrap_or(MAX_MACHINES).min(MAX_MACHINES);
    let before = |machine: &&Machine| params.after.is_some_and(|after| machine.id <= after);
    let view = |machine: &Machine| views::machine(&ledger, machine);
    Ok(Json(match params.owner {
        Some(owner) => ledger.machines_of(owner).skip_while(before).take(limit).map(view).collect(),
        None => ledger.machines().skip_while(before).take(limit).map(view).collect(),
    }))
}

/// A machine.
#[utoipa::path(get, path = "/v1/machines/{id}", tag = "machines", params(("id" = String, Path)), responses(
    (status = 200, body = MachineView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn machine(State(app): State<App>, Id(id): Id<MachineId>) -> Result<Json<MachineView>, Refusal> {
    let ledger = app.chain.ledger();
    let machine = ledger.machine(id).ok_or_else(|| Refusal::UnknownMachine(id.to_string()))?;
    Ok(Json(views::machine(&ledger, machine)))
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

/// An open invitation of a machine, by its code's public key.
#[utoipa::path(get, path = "/v1/invites/{code}", tag = "machines", params(("code" = String, Path)), responses(
    (status = 200, body = InviteView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn invite(State(app): State<App>, Id(code): Id<PublicKey>) -> Result<Json<InviteView>, Refusal> {
    let ledger = app.chain.ledger();
    let invite = ledger.invite(&code).ok_or_else(|| Refusal::UnknownInvite(code.to_string()))?;
    Ok(Json(views::invite(invite)))
}
