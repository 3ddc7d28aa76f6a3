//! Start, settings, the market, and the watch.

use std::sync::Arc;

use deepmarket_api::Client;
use tauri::{AppHandle, ipc::Channel};

use crate::{
    connection::{self, Chosen},
    error::{Answer, BAD_INPUT},
    live,
    markets::Markets,
    state::{App, Pluto},
    view::{CommandError, KnownAccount, Live, Market, Settings, Start},
};

/// Everything that the page needs to begin. Waits for no network but this computer's own.
#[tauri::command]
pub async fn start(app: Pluto<'_>) -> Answer<Start> {
    let remembered = Markets::read(&app.home.markets()).last(app.preselected.as_deref());
    let market = remembered.map(|(gateway, chain, known)| Market {
        gateway,
        name: known.name,
        chain: chain.to_hex(),
        validators: known.validators,
        height: known.height,
        known: true,
        was: None,
    });
    let local = match &app.preselected {
        Some(gateway) => Some(gateway.clone()),
        None => connection::local().await,
    };
    Ok(Start {
        market,
        local,
        accounts: known_accounts(&app)?,
        session: app.session().ok().map(|session| session.view()),
        settings: app.settings(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

fn known_accounts(app: &App) -> Answer<Vec<KnownAccount>> {
    let mut accounts = Vec::new();
    for name in app.home.account_names()? {
        // A file that isn't a key file is not the user's to choose.
        if let Ok(vault) = deepmarket_wallet::vault::Vault::read(&app.home.accounts().join(format!("{name}.json"))) {
            accounts.push(KnownAccount { name, id: vault.account().to_string() });
        }
    }
    Ok(accounts)
}

#[tauri::command]
pub async fn find_market(app: Pluto<'_>, gateway: Option<String>) -> Answer<Market> {
    let gateway = match gateway.filter(|gateway| !gateway.trim().is_empty()) {
        Some(gateway) => gateway,
        None => connection::local().await.ok_or_else(|| {
            let hint = "start one with `deepmarket up` in a terminal, or give the address of another market's gateway";
            CommandError::passing(BAD_INPUT, "no market runs on this computer", hint)
        })?,
    };
    let client = Client::new(vec![gateway])?;
    let status = client.status().await?;
    Ok(Markets::read(&app.home.markets()).view(&client.gateways()[0], &status))
}

#[tauri::command]
pub async fn choose_market(app: Pluto<'_>, gateway: String, chain: String) -> Answer<Market> {
    let chosen = chain.parse().map_err(|_| CommandError::new(BAD_INPUT, format!("'{chain}' is no genesis hash"), ""))?;
    let client = Client::new(vec![gateway])?;
    let gateway = client.gateways()[0].clone();
    let status = client.status().await?;
    connection::check(&chosen, &status)?;
    let market = Chosen::new(gateway.clone(), chosen, connection::gateways(&client, &chosen).await)?;
    let markets = app.remember(|markets| markets.choose(&gateway, &status, market.gateways().to_vec()))?;
    app.end_watch();
    app.unwatch_jobs();
    app.choose(market);
    Ok(Market { known: true, was: None, ..markets.view(&gateway, &status) })
}

#[tauri::command]
pub async fn set_settings(app: Pluto<'_>, settings: Settings) -> Answer {
    app.set_settings(settings)
}

#[tauri::command]
pub async fn still_here(app: Pluto<'_>) -> Answer {
    app.still_here();
    Ok(())
}

#[tauri::command]
pub async fn watch(handle: AppHandle, app: Pluto<'_>, channel: Channel<Live>) -> Answer {
    let market = app.market()?;
    let (id, stop) = app.begin_watch(channel.clone())?;
    let app: Arc<App> = app.inner().clone();
    let (around, here) = (app.clone(), market.clone());
    // It fails where there is no connection, which the watch tells.
    tokio::spawn(async move { drop(around.look_around(&here).await) });
    tokio::spawn(live::run(handle, app, market, id, channel, stop));
    Ok(())
}
