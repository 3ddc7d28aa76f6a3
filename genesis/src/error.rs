use deepmarket_ledger::ParamsError;

/// What is wrong with a genesis document. Codes 11xx.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not TOML, or not the TOML of a genesis document. The text names line, column and key.
    #[error("the genesis document can't be read: {0}")]
    Syntax(String),
    /// The document is far longer than one of a network is.
    #[error("the genesis document has {bytes} bytes; at most {limit} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most bytes.
        limit: usize,
    },
    /// The network's name.
    #[error("name: '{0}' must be 1 to 40 of the characters a-z, 0-9 and -")]
    BadName(String),
    /// The time.
    #[error("time: {0} is not a time in milliseconds since 1970 before the year 10000")]
    BadTime(u64),
    /// The rules' numbers.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// One validator.
    #[error("validators[{index}].{field}: {problem}")]
    Validator {
        /// Its place, counted from 0.
        index: usize,
        /// The field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// One registrar.
    #[error("registrars[{index}]: the key is in the list twice")]
    Registrar {
        /// Its place, counted from 0.
        index: usize,
    },
    /// Too many validators or registrars.
    #[error("{what}: {count} are too many; at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The document is a network whose keys are not filled in yet.
    #[error("{0} not filled in: `deepmarket up` does so for a local network, `deepmarket validator init` shows it for others")]
    Incomplete(&'static str),
}

impl GenesisError {
    /// The stable code.
    pub fn code(&self) -> u16 {
        match self {
            GenesisError::Syntax(_) => 1101,
            GenesisError::TooLong { .. } => 1102,
            GenesisError::BadName(_) => 1103,
            GenesisError::BadTime(_) => 1104,
            GenesisError::Params(_) => 1105,
            GenesisError::Validator { .. } => 1106,
            GenesisError::Registrar { .. } => 1107,
            GenesisError::TooMany { .. } => 1108,
            GenesisError::Incomplete(_) => 1109,
        }
    }
}
