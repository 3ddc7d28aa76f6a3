//! The binary `deepmarket`: everything a lender, a borrower or an operator does from a terminal.
//!
//! One file per verb under `verbs/`; [`args`] holds every flag; [`settings`] resolves them once (flags over environment over
//! the file in the home folder). Verbs talk to a market through the REST client; `validator run`, `lend start` and `lend join`
//! are also parts of a market themselves. Results go to standard output, progress and errors to standard error; exit
//! status 0 is success, 1 the user's error, 2 the environment's, 3 a bug.

mod accounts;
mod args;
mod error;
mod local_market;
mod output;
mod processes;
mod remote;
mod settings;
mod share;
mod verbs;
mod when;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            let _ = usage.print();
            return std::process::ExitCode::from(u8::from(usage.use_stderr()));
        }
    };
    output::start_logging(&args);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return error::report(&error::Failure::environment(format!("can't start the runtime: {error}")), args.json),
    };
    let json = args.json;
    let outcome = runtime.block_on(verbs::run(args));
    // A detached reader of standard input must not hold the process up.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => error::report(&failure, json),
    }
}
