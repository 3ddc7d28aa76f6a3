//! What is typed and nobody else may see.

use std::ops::Deref;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A password or recovery words: wiped from memory as soon as nobody needs them. They can't be shown or sent back.
pub struct Secret(Zeroizing<String>);

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Ok(Secret(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}
