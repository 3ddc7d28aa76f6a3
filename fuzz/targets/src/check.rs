//! Promises that several targets ask for.

use std::fmt::{Debug, Display};

use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{decode, encode};
use serde::{Serialize, de::DeserializeOwned};

/// What is read from canonical bytes is written as the same bytes.
pub(crate) fn canonical<T: BorshSerialize + BorshDeserialize>(data: &[u8]) -> Option<T> {
    match decode::<T>(data) {
        Ok(value) => {
            assert!(encode(&value) == data, "one value has two encodings");
            Some(value)
        }
        Err(error) => {
            assert!((1001..2000).contains(&error.code()));
            said(&error);
            None
        }
    }
}

/// A value survives JSON.
pub(crate) fn survives_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(&again, value);
}

/// What is read from JSON is written as JSON that is read, and written, as the same. (Values that can't be compared, or
/// that have fractions, whose last digit may change once.)
pub(crate) fn settles<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let first: T = serde_json::from_slice(data).ok()?;
    let second: T = again(&first);
    let third: T = again(&second);
    let (second, third) = (serde_json::to_vec(&second).expect("JSON"), serde_json::to_vec(&third).expect("JSON"));
    assert!(second == third, "reading and writing changes a value: {}", String::from_utf8_lossy(&second));
    Some(first)
}

fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("what was read can be written");
    serde_json::from_slice(&text).expect("what was written can be read")
}

/// An error has words, and not a flood of them: what strangers send isn't echoed without bound.
pub(crate) fn said(error: &impl Display) {
    let words = error.to_string();
    assert!(!words.is_empty() && words.len() < 16 * 1024, "an error of {} bytes", words.len());
}
