use deepmarket_types::{AccountId, Action, ChangeMode};

use super::{
    machine,
    offer::{self, Offering},
    status,
};
use crate::{
    args::Change,
    error::{Failure, Outcome},
    settings::Settings,
    verbs::market,
};

pub async fn run(settings: &Settings, args: &Change) -> Outcome {
    let (client, owner) = (settings.client()?, settings.signer()?);
    let view = machine::find(settings, &client, &args.machine).await?;
    machine::check_owner(&view, AccountId::from_key(&owner.public()))?;
    // A machine that joined without an offer has none to begin with.
    let present = view.pending.or(view.offer);
    if present.is_some() && args.offer.is_empty() {
        return Err(
            Failure::user("nothing was named that should change").with_hint("for example: deepmarket lend change --cores 2")
        );
    }
    let clock = market::clock(&client).await?;
    let before = present.map_or(Offering::one_core(), |offer| Offering::present(&offer));
    let offer = before.with(&args.offer, &clock)?.of(&view.config.resources)?;
    let mode = if args.at_once { ChangeMode::AtOnce } else { ChangeMode::AfterLease };
    client.act(&owner, Action::Lend { machine: view.id, offer, mode }).await?;
    let view = client.machine(view.id).await?.ok_or_else(|| Failure::bug("a machine whose offer was changed is known"))?;
    settings.output.show(&view, || {
        let waits = match view.pending {
            Some(_) => "it takes effect when the running leases have ended, and no new one begins until then",
            None => "it is in force",
        };
        let state = format!("the machine is {}: {}", view.state, status::why(&view, &clock));
        format!("the offer of '{}': {}\n{waits}; {state}", view.config.name, offer::sentence(&offer, &clock))
    })?;
    settings.output.next("deepmarket lend status");
    Ok(())
}
