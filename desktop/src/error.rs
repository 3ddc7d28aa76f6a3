//! Failures as the page shows them: without the command line's hints, with what to do here instead.

use deepmarket_api::ApiError;
use deepmarket_wallet::failure::Failure;

use crate::{connection, view::CommandError};

/// What a command gives.
pub type Answer<T = ()> = Result<T, CommandError>;

/// The wallet's own codes; those of the key file (7001 to 7004) are in the wallet crate.
pub const OTHER_MARKET: u16 = 7005;
pub const LOCKED: u16 = 7006;
pub const NO_MARKET: u16 = 7007;
pub const NOT_KNOWN: u16 = 7008;
pub const BAD_INPUT: u16 = 7009;
pub const CHILD: u16 = 7010;

impl CommandError {
    /// An error that the user can mend.
    pub fn new(code: u16, message: impl ToString, hint: impl ToString) -> CommandError {
        CommandError { code, message: message.to_string(), hint: hint.to_string(), retryable: false }
    }

    /// An error that may pass by itself.
    pub fn passing(code: u16, message: impl ToString, hint: impl ToString) -> CommandError {
        CommandError { retryable: true, ..CommandError::new(code, message, hint) }
    }
}

/// A file that could not be read or written.
pub fn io(what: impl ToString) -> impl FnOnce(std::io::Error) -> CommandError {
    let what = what.to_string();
    move |error| {
        CommandError::passing(0, format!("{what}: {error}"), "check that the disk has room and that the file may be written")
    }
}

/// Something that must never happen.
pub fn bug(what: impl ToString) -> CommandError {
    CommandError::new(0, what, "this is a bug in DeepMarket: please report it")
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> CommandError {
        let (code, retryable) = (error.code(), error.retryable());
        let (message, hint) = match error {
            ApiError::BadAddress { address, why } => (format!("the address '{address}' can't be used"), why),
            ApiError::Unreachable { tried } => {
                let tried: Vec<String> = tried.iter().map(|one| format!("{} ({})", one.address, one.why)).collect();
                let hint = "check that this computer is online and that the market runs; PLUTO goes on trying";
                (format!("no gateway answers: {}", tried.join("; ")), hint.to_owned())
            }
            ApiError::Rejected { message, hint, .. } => (message, without_commands(&hint)),
            ApiError::Status(body) => (body.message, without_commands(&body.hint)),
            ApiError::Undecided { waited, .. } => (
                format!("the market did not decide it within {:.0} s", waited.as_secs_f64()),
                "it may still do so: look into the history before you try again".to_owned(),
            ),
            ApiError::BadAnswer { address, why } => (
                format!("{address} doesn't answer like a gateway of this release: {why}"),
                "check the address, and that PLUTO and the market are of the same release".to_owned(),
            ),
            ApiError::NoSuchBlob(hash) => (
                format!("no gateway has the data {}", hash.to_hex()),
                "it may still be on its way, or the machine that holds it is off: try again later".to_owned(),
            ),
            ApiError::OtherMarket(chain) => return connection::other_market("unknown", &chain),
            ApiError::NoAccount(_) => {
                ("this market has no account of this key".to_owned(), "open it with an identity first".to_owned())
            }
        };
        CommandError { code, message, hint, retryable }
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> CommandError {
        let (message, hint) = (without_commands(failure.message()), without_commands(failure.hint()));
        CommandError { code: failure.code(), message, hint, retryable: failure.retryable() }
    }
}

/// The parts of a text that don't tell to type a command: there is no terminal here.
pub fn without_commands(text: &str) -> String {
    let parts = text.split_inclusive([';', '.', ',']);
    let is_command =
        |part: &&str| part.contains("`deepmarket ") || part.trim_start().starts_with("deepmarket ") || part.contains("--");
    let kept: String = parts.take_while(|part| !is_command(part)).collect();
    match kept.len() == text.len() {
        true => kept,
        false => kept.trim_end_matches([';', '.', ',', ' ', ':']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_api::client::Attempt;
    use deepmarket_types::Hash;

    use super::*;

    #[test]
    fn a_failure_keeps_its_code_and_loses_the_command_lines_hints() {
        let tried = vec![Attempt { address: "http://a:1".into(), why: "refused".into() }];
        let error = CommandError::from(ApiError::Unreachable { tried });
        assert_eq!((error.code, error.retryable), (5902, true));
        assert!(error.message.contains("http://a:1 (refused)") && !error.message.contains("deepmarket"), "{error:?}");
        let rejected = ApiError::Rejected {
            code: 2010,
            name: "insufficient".into(),
            message: "the purse holds less".into(),
            hint: "earn more; see `deepmarket account show`".into(),
            id: Hash::default(),
        };
        let error = CommandError::from(rejected);
        assert_eq!((error.code, error.message.as_str(), error.hint.as_str()), (2010, "the purse holds less", "earn more"));
        assert!(!error.retryable);
    }

    #[test]
    fn only_what_tells_to_type_a_command_goes_away() {
        assert_eq!(without_commands("use at most 40 letters, digits, '-'"), "use at most 40 letters, digits, '-'");
        assert_eq!(without_commands("deepmarket lend status"), "");
        assert_eq!(without_commands("name a later end with --until"), "");
        assert_eq!(without_commands("no gateway answered: x (y). `deepmarket up` starts one"), "no gateway answered: x (y)");
    }
}
