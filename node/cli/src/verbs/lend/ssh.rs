use std::time::Duration;

use deepmarket_api::Client;
use deepmarket_types::{AccountId, Offer, SecretKey};
use deepmarket_wallet::{accounts, invite_code::InviteCode, offers};
use serde_json::Value;

use super::{
    invite,
    join::{Joined, read_code},
    offer,
};
use crate::{
    args::Ssh,
    error::{Failure, Outcome},
    processes::stop_signal,
    remote::{Connection, Session},
    settings::Settings,
    verbs::market,
    when::MarketClock,
};

/// How long asking for the program's version may take.
const CHECK_WITHIN: Duration = Duration::from_secs(60);

/// Who makes the one-time code, and so ends the offer.
enum Inviter {
    /// The account that signs here.
    Account(Box<SecretKey>),
    /// Somebody elsewhere made it already; no account is needed here.
    Elsewhere(InviteCode),
}

impl Inviter {
    async fn find(settings: &Settings, client: &Client, code: Option<InviteCode>) -> Outcome<Inviter> {
        if let Some(code) = code {
            return Ok(Inviter::Elsewhere(code));
        }
        let owner = settings.signer()?;
        accounts::fetch(client, AccountId::from_key(&owner.public())).await?;
        Ok(Inviter::Account(Box::new(owner)))
    }

    async fn code(&self, client: &Client, offer: Option<Offer>, clock: &MarketClock) -> Outcome<InviteCode> {
        match self {
            Inviter::Account(owner) => offers::post_invite(client, owner, offer, clock.now.plus(offers::AT_ONCE_MS)).await,
            Inviter::Elsewhere(code) => Ok(code.clone()),
        }
    }
}

pub async fn run(settings: &Settings, args: &Ssh) -> Outcome {
    // Before standard input tells the parent's end.
    let given = args.code.as_deref().map(read_code).transpose()?;
    let stop = stop_signal(args.with_parent)?;
    let target = args.target.parse().map_err(Failure::user)?;
    // `ssh` itself knows `~`.
    if let Some(path) = args.identity.as_ref().filter(|path| !path.starts_with("~") && !path.is_file()) {
        return Err(
            Failure::user(format!("there is no key file {}", path.display())).with_hint("name a private key that is there")
        );
    }
    let connection = Connection { target, identity: args.identity.clone(), known_hosts: args.known_hosts.clone() };
    let client = settings.client()?;
    let inviter = Inviter::find(settings, &client, given).await?;
    let clock = market::clock(&client).await?;
    let offer = invite::wished(&args.offer, &clock)?;

    // Host key, login and program are tried before the market hears of anything.
    let ask_version = [args.program.as_str(), "--version"];
    let version = tokio::select! {
        version = connection.ask(&ask_version, CHECK_WITHIN) => version?,
        () = stop.cancelled() => return Ok(()),
    };
    settings.output.say(format!("{} has {version}", args.target));
    let code = inviter.code(&client, offer, &clock).await?;
    let gateways = client.gateways().join(",");
    let mut command = vec![args.program.as_str(), "lend", "join", "-", "--with-parent", "--json", "--gateway", &gateways];
    command.extend(args.machine.iter().flat_map(|name| ["--machine", name]));
    command.extend(args.reach.listen.iter().flat_map(|address| ["--listen", address]));
    command.extend(args.reach.public_address.iter().flat_map(|address| ["--public-address", address]));
    let mut session = Session::start(&connection, &command, &code.to_string(), settings.output).await?;

    let answer = tokio::select! {
        answer = session.answer() => answer,
        () = stop.cancelled() => None,
    };
    let joined = answer.map(understood).transpose()?;
    if let Some(joined) = &joined {
        settings.output.show(joined, || match &joined.offer {
            Some(offer) => format!("{} is lent as {}: {}", args.target, joined.machine, offer::sentence(offer, &clock)),
            None => format!("{} joined as {}; nothing is offered of it yet", args.target, joined.machine),
        })?;
        settings.output.next(match &joined.offer {
            Some(_) => "deepmarket lend status, in another terminal; Ctrl-C here takes the machine back".to_owned(),
            None => format!("in another terminal: deepmarket lend change --machine {} --cores 1", joined.machine),
        });
    }
    let ended = tokio::select! {
        ended = session.ended() => Some(ended?),
        () = stop.cancelled() => None,
    };
    session.end().await;
    // Asked to stop while it was joining: it may have joined all the same.
    let late = session.answer().await.and_then(|answer| understood(answer).ok());
    match (joined.or(late), &inviter) {
        (Some(joined), Inviter::Account(owner)) => {
            offers::withdraw(&client, owner, joined.machine).await?;
            settings.output.say("the machine is free again, and its offer has ended");
        }
        (Some(joined), Inviter::Elsewhere(_)) => {
            settings.output.say("the machine is free again");
            settings.output.next(format!("its owner ends its offer: deepmarket lend stop --machine {}", joined.machine));
        }
        (None, _) => {}
    }
    match ended {
        Some(status) => Err(connection.explain(status, &session.last_words().await, &args.program)),
        None => Ok(()),
    }
}

/// The other side's answer: who joined, or why it couldn't, in its own words.
fn understood(answer: Value) -> Outcome<Joined> {
    if let Some(error) = answer.get("error") {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
        return Err(Failure::user(format!("over there: {}", text("message"))).with_hint(text("hint")).with_code(code));
    }
    serde_json::from_value(answer).map_err(|e| {
        Failure::environment(format!("the program over there answers in another way: {e}"))
            .with_hint("is it of the same release as this one?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_over_there_is_told_in_its_own_words() {
        let answer = serde_json::json!({ "error": { "code": 2043, "message": "no such code", "hint": "ask again" } });
        let failure = understood(answer).err().unwrap();
        assert_eq!((failure.to_string().as_str(), failure.hint()), ("over there: no such code", "ask again"));
        let failure = understood(serde_json::json!({ "version": 9 })).err().unwrap();
        assert!(failure.to_string().contains("in another way"), "{failure}");
    }
}
