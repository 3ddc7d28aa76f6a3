//! Machines: this one and remote ones.

use std::{ffi::OsString, time::Duration};

use deepmarket_api::EvaluationRequest;
use deepmarket_types::{Action, ChangeMode, MachineId};
use deepmarket_wallet::{offers, this_computer};

use crate::{
    connection::Chosen,
    convert,
    error::{Answer, NOT_KNOWN},
    machine_folder::Folder,
    node::{self, Of},
    state::{App, Pluto, Unlocked},
    view::{CommandError, Evaluation, Invite, Measured, Offer},
};

/// How long measuring may take.
const VERIFY: Duration = Duration::from_secs(180);

fn of<'a>(app: &'a App, market: &'a Chosen, session: &'a Unlocked) -> Of<'a> {
    Of { home: &app.home, market, session }
}

/// Calls the keeper of nodes with what it needs.
macro_rules! keeper {
    ($app:expr, $of:ident => $call:expr) => {{
        let (market, session) = ($app.market()?, $app.session()?);
        let $of = of(&$app, &market, &session);
        $call.await
    }};
}

#[tauri::command]
pub async fn last_measured(app: Pluto<'_>) -> Answer<Option<Measured>> {
    let measurement = Folder::of(&app.home, app.session()?.id).measurement();
    Ok(measurement.map(|measurement| convert::measured(&measurement.config, measurement.measured)))
}

#[tauri::command]
pub async fn verify(app: Pluto<'_>) -> Answer<Measured> {
    let folder = Folder::of(&app.home, app.session()?.id);
    let mut arguments: Vec<OsString> = vec!["--home".into(), folder.home().into()];
    arguments.extend(["lend", "verify", "--machine", folder.name()].map(OsString::from));
    app.runs.run(arguments, VERIFY).await?;
    last_measured(app).await?.ok_or_else(|| CommandError::new(NOT_KNOWN, "nothing was measured", "try again"))
}

#[tauri::command]
pub async fn evaluate(app: Pluto<'_>, offer: Offer, machine: Option<MachineId>) -> Answer<Evaluation> {
    let offer = convert::offer_of(&offer)?;
    let (_, client) = app.checked().await?;
    let folder = Folder::of(&app.home, app.session()?.id);
    // Of this computer what was measured last counts.
    let here = machine.is_none() || machine == folder.machine();
    let config = match (folder.measurement().filter(|_| here), machine) {
        (Some(measurement), _) => measurement.config,
        (None, Some(machine)) => client.machine(machine).await?.ok_or_else(|| unknown(machine))?.config,
        (None, None) => return Err(CommandError::new(NOT_KNOWN, "this computer was not measured yet", "verify it first")),
    };
    let request = EvaluationRequest { offer, config: Some(config) };
    Ok(convert::evaluation(&client.evaluate(&request).await?))
}

fn unknown(machine: MachineId) -> CommandError {
    CommandError::new(2037, format!("the market knows no machine {machine}"), "choose one of your machines")
}

#[tauri::command]
pub async fn lend(app: Pluto<'_>, offer: Offer) -> Answer<String> {
    let offer = convert::offer_of(&offer)?;
    let machine = keeper!(app, of => app.node.lend(of, offer))?;
    Ok(machine.to_string())
}

#[tauri::command]
pub async fn start_node(app: Pluto<'_>) -> Answer {
    keeper!(app, of => app.node.start(of))
}

#[tauri::command]
pub async fn stop_node(app: Pluto<'_>) -> Answer {
    keeper!(app, of => app.node.stop(of))
}

#[tauri::command]
pub async fn pause(app: Pluto<'_>, until: Option<u64>) -> Answer {
    if until.is_some_and(|until| until <= node::now()) {
        return Err(CommandError::new(crate::error::BAD_INPUT, "this moment has passed", "choose a later one"));
    }
    keeper!(app, of => app.node.pause(of, until.unwrap_or(0)))
}

#[tauri::command]
pub async fn resume(app: Pluto<'_>) -> Answer {
    keeper!(app, of => app.node.resume(of))
}

#[tauri::command]
pub async fn invite(app: Pluto<'_>, offer: Option<Offer>, hours: f64) -> Answer<Invite> {
    let offer = offer.as_ref().map(convert::offer_of).transpose()?;
    let session = app.session()?;
    let (market, client) = app.checked().await?;
    let expires = node::expires(client.status().await?.time, hours)?;
    let code = offers::post_invite(&client, &session.key, offer, expires).await?;
    // One gateway is enough to type: it names the others.
    let command = format!("deepmarket lend join {code} --gateway {}", market.gateway);
    let loopback = market.gateways().iter().all(|gateway| this_computer::has(gateway));
    Ok(Invite { code: code.to_string(), expires: expires.0, command, loopback })
}

#[tauri::command]
pub async fn lend_over_ssh(
    app: Pluto<'_>,
    target: String,
    identity_file: Option<String>,
    program: String,
    offer: Offer,
) -> Answer {
    let offer = convert::offer_of(&offer)?;
    keeper!(app, of => app.node.lend_over_ssh(of, target.trim(), identity_file.as_deref(), program.trim(), offer))
}

#[tauri::command]
pub async fn stop_ssh(app: Pluto<'_>, target: String) -> Answer {
    keeper!(app, of => app.node.stop_ssh(of, &target))
}

#[tauri::command]
pub async fn change_offer(app: Pluto<'_>, machine: MachineId, offer: Offer, at_once: bool) -> Answer {
    let offer = convert::offer_of(&offer)?;
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    client.act(&session.key, Action::Lend { machine, offer, mode: mode(at_once) }).await?;
    let folder = Folder::of(&app.home, session.id);
    match folder.machine() == Some(machine) {
        true => node::remember(&folder, &offer),
        false => Ok(()),
    }
}

#[tauri::command]
pub async fn withdraw(app: Pluto<'_>, machine: MachineId, at_once: bool) -> Answer {
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    client.act(&session.key, Action::Withdraw { machine, mode: mode(at_once) }).await?;
    let folder = Folder::of(&app.home, session.id);
    match folder.machine() == Some(machine) {
        true => folder.set_paused(None),
        false => Ok(()),
    }
}

fn mode(at_once: bool) -> ChangeMode {
    if at_once { ChangeMode::AtOnce } else { ChangeMode::AfterLease }
}
