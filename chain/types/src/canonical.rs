use borsh::{BorshDeserialize, BorshSerialize};

/// The most bytes that one transaction may have (a job spec of 64 KiB and room around it).
pub const MAX_TRANSACTION_BYTES: usize = 96 * 1024;

/// The most bytes that one block may have: below the 4 MiB that the engine gossips.
pub const MAX_BLOCK_BYTES: usize = 2 * 1024 * 1024;

/// Bytes or values that can't be what they claim to be; refused before any rule of the ledger is asked. Codes 1xxx.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Not the canonical bytes of the expected value.
    #[error("not canonical bytes: {0}")]
    NotCanonical(String),
    /// Longer than its kind may be.
    #[error("{what} has {bytes} bytes; at most {limit} are allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The most bytes allowed.
        limit: usize,
    },
    /// A format version that this release does not know.
    #[error("format version {0} is not known to this release; upgrade DeepMarket")]
    UnknownVersion(u8),
    /// Bytes that are not a point of the curve, or a weak one.
    #[error("not a valid ed25519 public key")]
    BadPublicKey,
    /// The signature does not match key, chain and content.
    #[error("the signature does not match the key, the chain and the content")]
    BadSignature,
    /// A text field with characters outside the allowed ones, or too long.
    #[error("{field}: at most {limit} printable characters are allowed")]
    BadText {
        /// The field's name.
        field: &'static str,
        /// The most characters allowed.
        limit: usize,
    },
    /// Hours or weekdays that are none.
    #[error("the availability is wrong: {0}")]
    BadAvailability(&'static str),
}

impl FormError {
    /// The stable code that REST and the CLI show.
    pub fn code(&self) -> u16 {
        match self {
            FormError::NotCanonical(_) => 1001,
            FormError::TooLong { .. } => 1002,
            FormError::UnknownVersion(_) => 1003,
            FormError::BadPublicKey => 1004,
            FormError::BadSignature => 1005,
            FormError::BadText { .. } => 1006,
            FormError::BadAvailability(_) => 1007,
        }
    }
}

/// The canonical bytes of a value.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory doesn't fail and our types hold no floats")
}

/// Reads a value from its canonical bytes. Refuses trailing bytes and every second spelling of the same value.
pub fn decode<T: BorshSerialize + BorshDeserialize>(bytes: &[u8]) -> Result<T, FormError> {
    let value = T::try_from_slice(bytes).map_err(|e| FormError::NotCanonical(e.to_string()))?;
    if encode(&value) != bytes {
        return Err(FormError::NotCanonical("another encoding of the same value".into()));
    }
    Ok(value)
}

/// Checks a text that people will see: bounded, no control characters.
pub(crate) fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), FormError> {
    if text.chars().count() > limit || text.chars().any(char::is_control) {
        return Err(FormError::BadText { field, limit });
    }
    Ok(())
}
