//! Plain key files: of validators, registrars and machines, which must start unattended, with nobody there to type a password; and of
//! the command line's accounts, with which scripts sign. A password in a file beside the key would protect from nobody. What
//! protects them is the system: the file is its owner's (mode 0600) in a folder of its owner's (mode 0700), from the moment in
//! which they are made, and one that isn't is refused. For a key that people sign with there is the encrypted [`vault`](crate::vault).

use std::{fs, path::Path};

use deepmarket_types::SecretKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    failure::{Failure, Outcome, io},
    files,
};

/// A secret key on disk: readable by its owner only (mode 0600).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    /// What the file is, for people who find it.
    about: String,
    public: String,
    secret: String,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// A file has less than 1 KiB.
const MAX_BYTES: u64 = 16 * 1024;

const ABOUT: &str = "DeepMarket secret key (ed25519 seed, hex). Who has it has the credits or the machine: never share it.";

/// Reads a key file; refuses one that others may read, or in whose place others may put another one.
pub fn read(path: &Path) -> Outcome<SecretKey> {
    parse(path, &files::read_private(path, MAX_BYTES)?)
}

/// Reads a key file that is brought along, whoever may read it: disks for carrying know no owners.
pub fn read_brought(path: &Path) -> Outcome<SecretKey> {
    let size = fs::metadata(path).map_err(io(path.display()))?.len();
    match size {
        ..=MAX_BYTES => parse(path, &Zeroizing::new(fs::read_to_string(path).map_err(io(path.display()))?)),
        _ => Err(Failure::environment(format!("{} is not a DeepMarket key file: it has {size} bytes", path.display()))),
    }
}

/// What is wrong is told without a word of what is in the file: that may be a secret all the same.
fn parse(path: &Path, text: &str) -> Outcome<SecretKey> {
    let broken = |why: &str| {
        Failure::environment(format!("{} is not a DeepMarket key file: {why}", path.display()))
            .with_hint("restore it from your copy; a key can't be made again")
    };
    let file: KeyFile = serde_json::from_str(text)
        .map_err(|e| broken(&format!("it isn't as one is written, in line {}, column {}", e.line(), e.column())))?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&file.secret, &mut *seed).map_err(|_| broken("its secret isn't 64 hex digits"))?;
    let key = SecretKey::from_seed(*seed);
    if key.public().to_string() != file.public {
        return Err(broken("its halves don't belong together"));
    }
    Ok(key)
}

/// Writes a new key file; never over an existing one.
pub fn write(path: &Path, key: &SecretKey) -> Outcome {
    let seed = Zeroizing::new(key.seed());
    let file = KeyFile { about: ABOUT.into(), public: key.public().to_string(), secret: hex::encode(*seed) };
    let text = Zeroizing::new(serde_json::to_string_pretty(&file).map_err(Failure::bug)?);
    files::write_private_new(path, text.as_bytes())
}

/// Reads the key of a folder, or makes one there.
pub fn read_or_make(path: &Path) -> Outcome<SecretKey> {
    if path.exists() {
        return read(path);
    }
    let key = SecretKey::generate();
    write(path, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine/key.json");
        let key = read_or_make(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert!(write(&path, &key).is_err(), "an existing key is never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).is_err());
        assert_eq!(read_brought(&path).unwrap().public(), key.public());
        fs::write(&path, vec![b' '; 100_000]).unwrap();
        assert!(read_brought(&path).unwrap_err().message().contains("100000 bytes"));
    }

    #[test]
    fn what_is_in_a_broken_key_file_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let seed = hex::encode([7; 32]);
        for text in [
            format!("\"{seed}\""),
            format!("{{\"about\": \"\", \"public\": \"\", \"{seed}\": 1}}"),
            format!("{{\"about\": \"\", \"public\": \"\", \"secret\": \"{}x\"}}", &seed[1..]),
            format!("{{\"about\": \"\", \"public\": \"\", \"secret\": \"{seed}\"}}"),
        ] {
            files::write_private(&path, text.as_bytes()).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(failure.message().contains("is not a DeepMarket key file"), "{failure}");
            assert!(!format!("{failure} {failure:?}").contains(&seed[1..60]), "{failure:?}");
        }
    }
}
