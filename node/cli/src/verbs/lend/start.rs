use deepmarket_types::AccountId;
use deepmarket_wallet::{accounts, offers};

use super::{
    machine,
    offer::{self, Offering},
    serve, verify,
};
use crate::{args::Start, error::Outcome, processes::stop_signal, settings::Settings, verbs::market};

pub async fn run(settings: &Settings, args: &Start) -> Outcome {
    let stop = stop_signal(false)?;
    let (client, owner) = (settings.client()?, settings.signer()?);
    accounts::fetch(&client, AccountId::from_key(&owner.public())).await?;
    let clock = market::clock(&client).await?;
    let offering = Offering::one_core().with(&args.offer, &clock)?;
    let folder = machine::folder(settings, &args.machine)?;
    settings.output.say("measuring this machine");
    let config = tokio::select! {
        config = verify::measure(&folder, &args.machine) => config?,
        () = stop.cancelled() => return Ok(()),
    };
    let lent = offer::offer_measured(&client, &folder, config, &owner, offering).await?;
    settings.output.show(&lent, || {
        format!("{}\nlent: {}\nas {}", verify::describe(&lent.config), offer::sentence(&lent.offer, &clock), lent.id)
    })?;
    settings.output.next("deepmarket lend status, in another terminal; Ctrl-C here takes the machine back");
    serve::serve(&client, &folder, &args.reach, stop).await?;
    offers::withdraw(&client, &owner, lent.id).await?;
    settings.output.say("the machine is yours again");
    Ok(())
}
