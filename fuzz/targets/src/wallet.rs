//! What people bring to their wallets: key files, recovery words, one-time codes.

use std::{fs, path::PathBuf};

use deepmarket_types::Hash;
use deepmarket_wallet::{
    invite_code::InviteCode,
    keys,
    vault::{Vault, key_of_words, words},
};
use serde_json::Value;

use crate::{check::said, data::Folder};

/// A key file, 24 words or a one-time code; the first byte says which.
pub(crate) fn wallet(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 5 {
        0 => vault(data),
        // A change of one byte is found by the checksum, behind which all else is hidden: here it is made right.
        1 => with_right_checksum(data).iter().for_each(|file| vault(file)),
        2 => Folder::with(|folder| {
            let path: PathBuf = folder.join("key.json");
            fs::write(&path, data).expect("a temporary file");
            keys::read_brought(&path).err().iter().for_each(said);
        }),
        3 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            match key_of_words(text) {
                Ok(key) => assert_eq!(key_of_words(&words(&key).join(" ")).expect("its words").seed(), key.seed()),
                Err(failure) => said(&failure.message()),
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            match text.parse::<InviteCode>() {
                Ok(code) => assert!(code.to_string().parse::<InviteCode>() == Ok(code)),
                Err(error) => said(&error),
            }
        }
    }
}

fn vault(file: &[u8]) {
    match Vault::from_bytes(file) {
        Ok(vault) => {
            assert!(vault.to_bytes().expect("it was read") == file.trim_ascii_end(), "one key file has two encodings");
            // Opening takes the memory that the file asks for: only where that is little.
            let value: Value = serde_json::from_slice(file).expect("it was read");
            let asks = |what: &str| value["kdf"][what].as_u64().expect("a number");
            if asks("memory_kib") <= 64 && asks("passes") <= 1 {
                vault.open("wrong password").expect_err("the password is wrong");
            }
        }
        Err(failure) => said(&failure.message()),
    }
}

/// The file as it would be if its author had written this.
fn with_right_checksum(file: &[u8]) -> Option<Vec<u8>> {
    let vault: Vault = serde_json::from_slice(file).ok()?;
    let mut bytes = serde_json::to_vec_pretty(&vault).ok()?;
    let place = bytes.len() - "0123456789abcdef\"\n}".len();
    bytes[place..place + 16].copy_from_slice(b"0000000000000000");
    let plain: Vault = serde_json::from_slice(&bytes).ok()?;
    let check = Hash::of(&serde_json::to_vec(&plain).ok()?).to_hex();
    bytes[place..place + 16].copy_from_slice(&check.as_bytes()[..16]);
    Some(bytes)
}
