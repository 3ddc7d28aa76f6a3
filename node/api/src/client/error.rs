use std::{fmt, time::Duration};

use deepmarket_types::{ChainId, Hash};

use crate::ErrorBody;

/// One gateway that was asked in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its address.
    pub address: String,
    /// What happened.
    pub why: String,
}

/// Why a request failed. Codes of refusals are the gateway's or the ledger's own; those of the client are 59xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// A gateway's address that can't be used (5901).
    BadAddress {
        /// The address as given.
        address: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// No gateway answered (5902).
    Unreachable {
        /// All that were asked.
        tried: Vec<Attempt>,
    },
    /// The transaction was refused: by a gateway's checks, or by the ledger in a block.
    Rejected {
        /// The stable code: 1xxx form, 2xxx ledger, 3xxx jobs, 4xxx mempool.
        code: u16,
        /// Its stable short name; `rejected` where only a block's result is known.
        name: String,
        /// What is wrong.
        message: String,
        /// What to do; may be empty.
        hint: String,
        /// The transaction.
        id: Hash,
    },
    /// A gateway refused a request that isn't a transaction.
    Status(ErrorBody),
    /// The transaction isn't in a block yet (5903). It may still come: ask for it by its id, or submit the same bytes again.
    Undecided {
        /// The transaction.
        id: Hash,
        /// How long it was waited for.
        waited: Duration,
        /// What was wrong last, where something was.
        last: String,
    },
    /// What answered isn't a gateway of this release (5904).
    BadAnswer {
        /// Who answered.
        address: String,
        /// What was wrong with the answer.
        why: String,
    },
    /// No gateway has this blob (5905).
    NoSuchBlob(Hash),
    /// The signer has no account (5906).
    NoAccount(String),
    /// The gateway that answers is of another market than the client's: nothing was signed for that one (5907).
    OtherMarket(ChainId),
}

impl ApiError {
    /// The stable code.
    pub fn code(&self) -> u16 {
        match self {
            ApiError::BadAddress { .. } => 5901,
            ApiError::Unreachable { .. } => 5902,
            ApiError::Undecided { .. } => 5903,
            ApiError::BadAnswer { .. } => 5904,
            ApiError::NoSuchBlob(_) => 5905,
            ApiError::NoAccount(_) => 5906,
            ApiError::OtherMarket(_) => 5907,
            ApiError::Rejected { code, .. } => *code,
            ApiError::Status(body) => body.code,
        }
    }

    /// May the same request succeed later?
    pub fn retryable(&self) -> bool {
        match self {
            ApiError::Unreachable { .. } | ApiError::Undecided { .. } | ApiError::NoSuchBlob(_) => true,
            ApiError::Status(body) => body.retryable,
            ApiError::BadAnswer { .. } => true,
            ApiError::BadAddress { .. } | ApiError::Rejected { .. } => false,
            ApiError::NoAccount(_) | ApiError::OtherMarket(_) => false,
        }
    }
}

impl std::error::Error for ApiError {}

/// `message. hint (code N)`, with the parts that there are.
fn sentence(f: &mut fmt::Formatter<'_>, message: &str, hint: &str, code: u16) -> fmt::Result {
    f.write_str(message)?;
    if !hint.is_empty() {
        write!(f, "; {hint}")?;
    }
    write!(f, " (code {code})")
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiError::BadAddress { address, why } => write!(f, "the gateway address '{address}' can't be used: {why}"),
            ApiError::Unreachable { tried } => {
                f.write_str("no gateway answered: ")?;
                for (i, attempt) in tried.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{} ({})", attempt.address, attempt.why)?;
                }
                f.write_str(". `deepmarket up` starts a local market; --gateway names another market's gateway")
            }
            ApiError::Rejected { code, message, hint, .. } => sentence(f, message, hint, *code),
            ApiError::Status(body) => sentence(f, &body.message, &body.hint, body.code),
            ApiError::Undecided { id, waited, last } => {
                write!(f, "transaction {id} was not decided within {:.1} s", waited.as_secs_f64())?;
                if !last.is_empty() {
                    write!(f, " ({last})")?;
                }
                write!(f, "; it may still be: ask with `deepmarket chain tx {}` before you try again", id.to_hex())
            }
            ApiError::BadAnswer { address, why } => {
                write!(f, "{address} doesn't answer like a gateway of this release: {why}; check the address and its version")
            }
            ApiError::NoSuchBlob(hash) => {
                write!(f, "no gateway has the blob {hash}; it may still be on its way, or the machine that holds it is off")
            }
            ApiError::NoAccount(key) => write!(f, "no account has the key {key}; `deepmarket account open` opens one"),
            ApiError::OtherMarket(chain) => {
                write!(f, "another market answers, with the genesis hash {}; nothing was signed for it", chain.to_hex())
            }
        }
    }
}
