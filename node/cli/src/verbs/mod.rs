//! One file per verb.

pub mod account;
pub mod chain;
pub mod data;
pub mod demo;
pub mod down;
pub mod follow;
pub mod job;
pub mod lend;
pub mod market;
pub mod prices;
pub mod result;
pub mod up;
pub mod validator;

use crate::{
    args::{Args, Verb},
    error::Outcome,
    settings::Settings,
};

pub async fn run(args: Args) -> Outcome {
    let settings = Settings::resolve(&args)?;
    match args.verb {
        Verb::Demo(demo) => demo::run(&settings, demo).await,
        Verb::Up(up) => up::run(&settings, up).await,
        Verb::Down => down::run(&settings).await,
        Verb::Account(verb) => account::run(&settings, verb).await,
        Verb::Data(verb) => data::run(&settings, verb).await,
        Verb::Job(verb) => job::run(&settings, verb).await,
        Verb::Lend(verb) => lend::run(&settings, verb).await,
        Verb::Prices => prices::run(&settings).await,
        Verb::Chain(verb) => chain::run(&settings, verb).await,
        Verb::Validator(verb) => validator::run(&settings, verb).await,
    }
}
