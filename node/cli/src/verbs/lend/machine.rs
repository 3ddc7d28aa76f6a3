//! Which machine is meant, and where its files are.

use std::path::{Path, PathBuf};

use deepmarket_api::{Client, MachineView};
use deepmarket_types::{AccountId, MachineId};
use deepmarket_wallet::keys;

use crate::{
    error::{Failure, Outcome},
    settings::Settings,
};

/// A machine of this host: its key, its measurement, its blobs and leases.
pub fn folder(settings: &Settings, name: &str) -> Outcome<PathBuf> {
    let fine = !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fine || name.starts_with('.') {
        return Err(Failure::user(format!("'{name}' can't be a machine's name"))
            .with_hint("use at most 40 letters, digits, '-', '_' and '.'; the first is no '.'"));
    }
    Ok(settings.home.join("machines").join(name))
}

pub fn key_path(folder: &Path) -> PathBuf {
    folder.join("key.json")
}

/// The machine of an id, of a name on this host, or of a name among the account's machines, in this order.
pub async fn find(settings: &Settings, client: &Client, who: &str) -> Outcome<MachineView> {
    if let Some(id) = who.parse().ok().or(on_this_host(settings, who)?) {
        return client.machine(id).await?.ok_or_else(|| unknown(format!("the market knows no machine {id}")));
    }
    let owner = settings.accounts.resolve(None, settings.account_name())?;
    let mut named: Vec<MachineView> = client.machines(Some(owner)).await?;
    named.retain(|machine| machine.config.name == who);
    match named.len() {
        1 => Ok(named.remove(0)),
        0 => Err(unknown(format!("there is no machine '{who}' on this host or in the account"))),
        several => {
            let ids: Vec<String> = named.iter().map(|machine| machine.id.to_string()).collect();
            let message = format!("the account has {several} machines called '{who}': {}", ids.join(", "));
            Err(Failure::user(message).with_hint("name one of them by its id: --machine dmm1…"))
        }
    }
}

fn unknown(message: String) -> Failure {
    Failure::user(message)
        .with_hint("`deepmarket lend status` lists the account's machines, `deepmarket lend start` lends this one")
        .with_code(2037)
}

/// The id of a machine whose key is on this host.
fn on_this_host(settings: &Settings, name: &str) -> Outcome<Option<MachineId>> {
    let Ok(folder) = folder(settings, name) else { return Ok(None) };
    let path = key_path(&folder);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(MachineId::from_key(&keys::read(&path)?.public())))
}

/// Whose machine it must be for the account that signs to change it: said here in the words of the one who typed it.
pub fn check_owner(view: &MachineView, owner: AccountId) -> Outcome {
    if view.owner == owner {
        return Ok(());
    }
    let message = format!("{} '{}' belongs to the account {}, not to {owner}", view.id, view.config.name, view.owner);
    Err(Failure::user(message).with_hint("sign with its owner's account: --account NAME").with_code(2038))
}
