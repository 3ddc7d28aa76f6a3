use std::process::ExitCode;

use deepmarket_wallet::failure::Kind;
pub use deepmarket_wallet::failure::{Failure, Outcome, io};
use deepmarket_worker::WorkerError;

/// Writes a failure to standard error (as JSON to standard output with `--json`) and gives the exit status.
pub fn report(failure: &Failure, json: bool) -> ExitCode {
    if json {
        let error = serde_json::json!({ "code": failure.code(), "message": failure.message(), "hint": failure.hint() });
        println!("{}", serde_json::json!({ "error": error }));
    }
    let code = if failure.code() == 0 { String::new() } else { format!(" [{}]", failure.code()) };
    eprintln!("error{code}: {failure}");
    if !failure.hint().is_empty() {
        eprintln!("hint: {}", failure.hint());
    }
    ExitCode::from(match failure.kind() {
        Kind::User => 1,
        Kind::Environment => 2,
        Kind::Bug => 3,
    })
}

/// A worker's failure, as ours.
pub fn of_worker(error: WorkerError) -> Failure {
    Failure::environment(&error).with_code(error.code())
}
