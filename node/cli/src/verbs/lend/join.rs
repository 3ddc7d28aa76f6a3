use std::{
    fs,
    io::BufRead as _,
    path::{Path, PathBuf},
};

use deepmarket_api::{Client, InviteView};
use deepmarket_types::{AccountId, Action, MachineConfig, MachineId, Offer, PublicKey, join_proof};
use deepmarket_wallet::{files::write_whole, invite_code::InviteCode, keys, offers::INVITE_UNKNOWN, this_computer};
use serde::{Deserialize, Serialize};

use super::{
    machine,
    offer::{self, Offering},
    serve, verify,
};
use crate::{
    args::Join,
    error::{Failure, Outcome, io},
    processes::stop_signal,
    settings::Settings,
    verbs::market,
    when::MarketClock,
};

/// `joined.json` in a machine's folder: the code that it joined with, so that the same command serves on after a pause.
#[derive(PartialEq, Serialize, Deserialize)]
struct JoinedWith {
    code: PublicKey,
}

/// What `lend join` prints with `--json`; `lend ssh` reads it.
#[derive(Serialize, Deserialize)]
pub struct Joined {
    pub machine: MachineId,
    pub owner: AccountId,
    pub config: MachineConfig,
    pub offer: Option<Offer>,
}

pub async fn run(settings: &Settings, args: &Join) -> Outcome {
    let code = read_code(&args.code)?;
    let stop = stop_signal(args.with_parent)?;
    let client = settings.client()?;
    let name = args.machine.clone().unwrap_or_else(this_computer::name);
    let folder = machine::folder(settings, &name)?;
    let clock = market::clock(&client).await?;
    let joined = tokio::select! {
        joined = join(settings, &client, &code, &name, &folder, &clock) => joined?,
        () = stop.cancelled() => return Ok(()),
    };
    settings.output.show(&joined, || {
        let what = match &joined.offer {
            Some(offer) => format!("lent: {}", offer::sentence(offer, &clock)),
            None => format!(
                "nothing is offered of it yet: it works as soon as its owner says `deepmarket lend change --machine {}`",
                joined.machine
            ),
        };
        let machine = verify::describe(&joined.config);
        format!("{machine}\nthis machine belongs to {} as {}\n{what}", joined.owner, joined.machine)
    })?;
    settings.output.next("Ctrl-C here takes the machine back; the same command lends it again");
    serve::serve(&client, &folder, &args.reach, stop).await?;
    settings.output.say("the machine is free again");
    if !args.with_parent {
        settings.output.next(format!("its owner ends its offer: deepmarket lend stop --machine {}", joined.machine));
    }
    Ok(())
}

/// The code as an argument, or from standard input: arguments are seen by everybody on a machine.
pub fn read_code(argument: &str) -> Outcome<InviteCode> {
    let mut typed = argument.to_owned();
    if argument == "-" {
        typed.clear();
        std::io::stdin().lock().read_line(&mut typed).map_err(io("reading the code from standard input"))?;
    }
    typed.parse().map_err(|why: String| Failure::user(why).with_hint("type it as it was shown; dashes and capitals don't matter"))
}

/// Measures the machine and joins it to the account that made the code, unless it joined with this code before.
async fn join(
    settings: &Settings,
    client: &Client,
    code: &InviteCode,
    name: &str,
    folder: &Path,
    clock: &MarketClock,
) -> Outcome<Joined> {
    let chain = client.status().await?.chain;
    let code = code.key(&chain);
    let key = keys::read_or_make(&machine::key_path(folder))?;
    let id = MachineId::from_key(&key.public());
    let marker = JoinedWith { code: code.public() };
    let Some(invite) = client.invite(&code.public()).await? else {
        return match (client.machine(id).await?, read_marker(folder)) {
            (Some(view), Some(before)) if before == marker => {
                Ok(Joined { machine: id, owner: view.owner, config: view.config, offer: view.offer })
            }
            _ => Err(unknown()),
        };
    };
    if invite.expires <= clock.now {
        let message = format!("the code is void since {} {}", clock.show(invite.expires), clock.zone());
        return Err(Failure::user(message).with_hint("ask for a new one: deepmarket lend invite").with_code(INVITE_UNKNOWN));
    }
    settings.output.say("measuring this machine");
    let config = verify::measure(folder, name).await?;
    check(&invite, &config)?;
    let proof = join_proof(&code, &chain, &key.public(), &config);
    // Before the code is used up: whatever happens next, the same command finds out where it stands.
    let text = serde_json::to_string(&marker).map_err(Failure::bug)?;
    write_whole(&marker_path(folder), text.as_bytes())?;
    client.act(&key, Action::Join { code: code.public(), config: config.clone(), proof }).await?;
    Ok(Joined { machine: id, owner: invite.owner, config, offer: invite.offer })
}

fn unknown() -> Failure {
    Failure::user(
        "no open invitation of this market has this code: it was used already, its time is over, or a character is wrong",
    )
    .with_hint("compare it with what was shown, or ask for a new one: deepmarket lend invite")
    .with_code(INVITE_UNKNOWN)
}

/// Has this machine what was offered of it, unseen? If not the code stays good for another one.
fn check(invite: &InviteView, config: &MachineConfig) -> Outcome {
    let Some(offer) = &invite.offer else { return Ok(()) };
    match Offering::present(offer).of(&config.resources) {
        Ok(_) => Ok(()),
        Err(failure) => Err(Failure::user(format!("the invitation offers more than this machine has: {failure}"))
            .with_hint("ask its owner for an invitation that offers less, or without an offer: deepmarket lend invite")
            .with_code(2033)),
    }
}

fn marker_path(folder: &Path) -> PathBuf {
    folder.join("joined.json")
}

fn read_marker(folder: &Path) -> Option<JoinedWith> {
    serde_json::from_str(&fs::read_to_string(marker_path(folder)).ok()?).ok()
}
