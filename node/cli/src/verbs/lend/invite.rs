use deepmarket_types::{AccountId, Offer};
use deepmarket_wallet::{accounts, offers, this_computer};
use serde_json::json;

use super::offer::{self, Offering};
use crate::{
    args::{Invite, OfferFlags},
    error::Outcome,
    settings::Settings,
    verbs::market,
    when::MarketClock,
};

pub async fn run(settings: &Settings, args: &Invite) -> Outcome {
    let (client, owner) = (settings.client()?, settings.signer()?);
    accounts::fetch(&client, AccountId::from_key(&owner.public())).await?;
    let clock = market::clock(&client).await?;
    let offer = wished(&args.offer, &clock)?;
    let expires = clock.now.plus(args.expires);
    let code = offers::post_invite(&client, &owner, offer, expires).await?;
    // One is enough to type: it names the others.
    let gateway = client.gateways().first().cloned().unwrap_or_default();
    let command = format!("deepmarket lend join {code} --gateway {gateway}");
    let report = json!({ "code": code.to_string(), "offer": offer, "expires": expires, "command": command });
    settings.output.show(&report, || {
        let what = match &offer {
            Some(offer) => format!("offered as soon as it joins: {}", offer::sentence(offer, &clock)),
            None => {
                "nothing is offered of it until you say so: deepmarket lend change --machine ID, once it has joined".to_owned()
            }
        };
        format!(
            "code    {code}    (for one machine, until {} {})\n{what}\n\nType on the machine:\n  {command}",
            clock.show(expires),
            clock.zone()
        )
    })?;
    if client.gateways().iter().all(|gateway| this_computer::has(gateway)) {
        settings
            .output
            .say("this market is on this host only: a remote machine reaches it where its gateways' ports are forwarded");
    }
    settings.output.next("deepmarket lend status, once it has joined");
    Ok(())
}

/// What the flags say; nothing where they say nothing.
pub fn wished(flags: &OfferFlags, clock: &MarketClock) -> Outcome<Option<Offer>> {
    match flags.is_empty() {
        true => Ok(None),
        false => Offering::one_core().with(flags, clock)?.unmeasured().map(Some),
    }
}
