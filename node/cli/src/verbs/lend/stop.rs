use deepmarket_types::{AccountId, Action, ChangeMode};

use super::machine;
use crate::{error::Outcome, settings::Settings};

pub async fn run(settings: &Settings, name: &str, after_lease: bool) -> Outcome {
    let (client, owner) = (settings.client()?, settings.signer()?);
    let view = machine::find(settings, &client, name).await?;
    machine::check_owner(&view, AccountId::from_key(&owner.public()))?;
    let mode = if after_lease { ChangeMode::AfterLease } else { ChangeMode::AtOnce };
    let status = client.act(&owner, Action::Withdraw { machine: view.id, mode }).await?;
    settings.output.show(&status, || {
        let when = match (after_lease, view.leases.is_empty()) {
            (true, false) => "ends when its running leases have ended; it takes no new one",
            _ => "has ended",
        };
        format!("the offer of '{}' {when}", view.config.name)
    })?;
    settings.output.next("deepmarket lend status");
    Ok(())
}
