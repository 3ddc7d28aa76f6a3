use std::{fmt, process::ExitCode};

use deepmarket_api::ApiError;
use deepmarket_worker::WorkerError;

/// Who has to act on a failure; it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for can't be: status 1.
    User,
    /// The machine, the network or a file: status 2.
    Environment,
    /// DeepMarket itself: status 3.
    Bug,
}

/// What went wrong and what to do.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    code: u16,
    message: String,
    hint: String,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    fn new(kind: Kind, code: u16, message: impl fmt::Display) -> Self {
        Failure { kind, code, message: message.to_string(), hint: String::new() }
    }

    /// The user's request can't be fulfilled as it is.
    pub fn user(message: impl fmt::Display) -> Self {
        Self::new(Kind::User, 0, message)
    }

    /// A file, a process or the network failed.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self::new(Kind::Environment, 0, message)
    }

    /// Something that must never happen.
    pub fn bug(message: impl fmt::Display) -> Self {
        Self::new(Kind::Bug, 0, message).hint("this is a bug in DeepMarket: please report it with the log")
    }

    /// What to do about it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = hint.to_string();
        self
    }

    /// The hint; empty where there is none.
    #[cfg(test)]
    pub fn what_to_do(&self) -> &str {
        &self.hint
    }

    /// Gives the failure the stable code of the error that caused it.
    pub fn code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// Writes the failure to standard error (as JSON to standard output with `--json`) and gives the exit status.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            let error = serde_json::json!({ "code": self.code, "message": self.message, "hint": self.hint });
            println!("{}", serde_json::json!({ "error": error }));
        }
        let code = if self.code == 0 { String::new() } else { format!(" [{}]", self.code) };
        eprintln!("error{code}: {}", self.message);
        if !self.hint.is_empty() {
            eprintln!("hint: {}", self.hint);
        }
        ExitCode::from(match self.kind {
            Kind::User => 1,
            Kind::Environment => 2,
            Kind::Bug => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Names the file that an IO error is about.
pub fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::environment(format!("{what}: {error}"))
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let code = error.code();
        let (kind, message, hint) = match error {
            ApiError::Rejected { message, hint, .. } => (Kind::User, message, hint),
            ApiError::Status(body) => (if body.retryable { Kind::Environment } else { Kind::User }, body.message, body.hint),
            ApiError::BadAddress { .. } | ApiError::NoAccount(_) => (Kind::User, error.to_string(), String::new()),
            other => (Kind::Environment, other.to_string(), String::new()),
        };
        Failure { kind, code, message, hint }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        Failure::environment(&error).code(error.code())
    }
}
