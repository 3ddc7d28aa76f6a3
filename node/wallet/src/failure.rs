//! What went wrong, whose turn it is, and what to do.

use std::fmt;

use deepmarket_api::ApiError;

/// Who has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for can't be.
    User,
    /// The machine, the network or a file.
    Environment,
    /// DeepMarket itself.
    Bug,
}

/// What went wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    code: u16,
    message: String,
    hint: String,
    retryable: bool,
}

/// What a step gives, or why it failed.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Failure { kind, code: 0, message: message.to_string(), hint: String::new(), retryable: false }
    }

    /// The user's request can't be fulfilled as it is.
    pub fn user(message: impl fmt::Display) -> Self {
        Self::new(Kind::User, message)
    }

    /// A file, a process or the network failed.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// Something that must never happen.
    pub fn bug(message: impl fmt::Display) -> Self {
        Self::new(Kind::Bug, message).with_hint("this is a bug in DeepMarket: please report it with the log")
    }

    /// The same with what to do about it.
    pub fn with_hint(self, hint: impl fmt::Display) -> Self {
        Failure { hint: hint.to_string(), ..self }
    }

    /// The same with the stable code of the error that caused it.
    pub fn with_code(self, code: u16) -> Self {
        Failure { code, ..self }
    }

    /// The same, said of something: `mnist.toml: line 3: …`.
    pub fn about(self, what: impl fmt::Display) -> Self {
        Failure { message: format!("{what}: {}", self.message), ..self }
    }

    /// Who has to act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stable code; 0 without one.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do; empty where nothing can be done.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// May the same succeed later, without a change?
    pub fn retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Names the file that an IO error is about.
pub fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::environment(format!("{what}: {error}"))
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let (code, may_pass) = (error.code(), error.retryable());
        let (kind, message, hint) = match error {
            ApiError::Rejected { message, hint, .. } => (Kind::User, message, hint),
            ApiError::Status(body) => (if body.retryable { Kind::Environment } else { Kind::User }, body.message, body.hint),
            ApiError::BadAddress { .. } | ApiError::NoAccount(_) | ApiError::OtherMarket(_) => {
                (Kind::User, error.to_string(), String::new())
            }
            other => (Kind::Environment, other.to_string(), String::new()),
        };
        Failure { kind, code, message, hint, retryable: kind == Kind::Environment && may_pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_worth_another_try() {
        let unreachable = Failure::from(ApiError::Unreachable { tried: Vec::new() });
        assert_eq!((unreachable.kind(), unreachable.code(), unreachable.retryable()), (Kind::Environment, 5902, true));
        let nobody = Failure::from(ApiError::NoAccount("key".into()));
        assert_eq!((nobody.kind(), nobody.code(), nobody.retryable()), (Kind::User, 5906, false));
        assert!(!Failure::environment("the disk is full").retryable());
    }

    #[test]
    fn a_failure_is_told_with_what_it_is_about() {
        let failure = Failure::user("line 3: no such key").with_code(3002).with_hint("leave it out").about("mnist.toml");
        assert_eq!(failure.to_string(), "mnist.toml: line 3: no such key");
        assert_eq!((failure.code(), failure.hint()), (3002, "leave it out"));
    }
}
