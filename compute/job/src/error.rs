use std::fmt;

/// Kinds of what can be wrong with a job spec. Codes 3xxx are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecProblem {
    /// Not TOML.
    Syntax,
    /// A key or a name that this release doesn't know.
    Unknown,
    /// A key that must be there.
    Missing,
    /// A value of another type than expected.
    WrongType,
    /// A value outside what is allowed.
    BadValue,
    /// Layers that don't fit together.
    Shape,
    /// More than a job may ask for, or more memory than the spec asks its workers for.
    TooLarge,
    /// Known, but not in this release.
    NotInRelease,
    /// Bytes that aren't the canonical bytes of a spec.
    NotCanonical,
    /// The dataset isn't known by this name.
    UnknownDataset,
    /// The dataset doesn't fit the model.
    DataMismatch,
    /// The job whose result is to be used isn't known, or has none.
    UnknownModel,
}

impl SpecProblem {
    /// The stable code that REST and the CLI show.
    pub fn code(self) -> u16 {
        match self {
            SpecProblem::Syntax => 3001,
            SpecProblem::Unknown => 3002,
            SpecProblem::Missing => 3003,
            SpecProblem::WrongType => 3004,
            SpecProblem::BadValue => 3005,
            SpecProblem::Shape => 3006,
            SpecProblem::TooLarge => 3007,
            SpecProblem::NotInRelease => 3008,
            SpecProblem::NotCanonical => 3009,
            SpecProblem::UnknownDataset => 3010,
            SpecProblem::DataMismatch => 3011,
            SpecProblem::UnknownModel => 3012,
        }
    }
}

/// Why a job spec is refused: where, what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    /// What kind of problem.
    pub problem: SpecProblem,
    /// The line in the TOML text, counted from 1; none where there is no text.
    pub line: Option<usize>,
    /// The key, for example `model.layers[3].conv2d.kernel`; empty where the whole spec is meant.
    pub place: String,
    /// What is wrong and why.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl SpecError {
    pub(crate) fn new(
        problem: SpecProblem,
        place: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        SpecError { problem, line: None, place: place.into(), message: message.into(), hint: hint.into() }
    }

    /// The stable code that REST and the CLI show.
    pub fn code(&self) -> u16 {
        self.problem.code()
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}; {}", self.message, self.hint)
    }
}
