//! Lending: this machine, or remote ones that join by a one-time code or over SSH.

mod change;
mod evaluate;
mod invite;
mod join;
mod machine;
mod offer;
mod serve;
mod ssh;
mod start;
mod status;
mod stop;
mod verify;

pub use offer::{Lent, Offering, offer};
pub use status::wait_until_idle;

use crate::{args::Lend, error::Outcome, settings::Settings};

pub async fn run(settings: &Settings, verb: Lend) -> Outcome {
    match verb {
        Lend::Verify { machine } => verify::run(settings, &machine).await,
        Lend::Evaluate(args) => evaluate::run(settings, &args).await,
        Lend::Start(args) => start::run(settings, &args).await,
        Lend::Change(args) => change::run(settings, &args).await,
        Lend::Invite(args) => invite::run(settings, &args).await,
        Lend::Join(args) => join::run(settings, &args).await,
        Lend::Ssh(args) => ssh::run(settings, &args).await,
        Lend::Run { dir, reach, with_parent } => serve::run(settings, &dir, &reach, with_parent).await,
        Lend::Stop { machine, after_lease } => stop::run(settings, &machine, after_lease).await,
        Lend::Status { all, machine } => status::run(settings, all, machine.as_deref()).await,
    }
}
