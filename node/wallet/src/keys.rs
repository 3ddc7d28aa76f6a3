//! Plain key files: of validators and machines, which must start unattended, and of the command line's accounts.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

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

/// Reads a key file; refuses one that others may read.
pub fn read(path: &Path) -> Outcome<SecretKey> {
    let mode = fs::metadata(path).map_err(io(path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::environment(format!("{} may be read by others (mode {:o})", path.display(), mode & 0o777))
            .with_hint(format!("chmod 600 {}", path.display())));
    }
    parse(path)
}

/// Reads a key file that is brought along, whoever may read it: disks for carrying know no owners.
pub fn read_brought(path: &Path) -> Outcome<SecretKey> {
    let size = fs::metadata(path).map_err(io(path.display()))?.len();
    match size {
        ..=MAX_BYTES => parse(path),
        _ => Err(Failure::environment(format!("{} is not a DeepMarket key file: it has {size} bytes", path.display()))),
    }
}

fn parse(path: &Path) -> Outcome<SecretKey> {
    let broken = |why: &str| {
        Failure::environment(format!("{} is not a DeepMarket key file: {why}", path.display()))
            .with_hint("restore it from your copy; a key can't be made again")
    };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io(path.display()))?);
    let file: KeyFile = serde_json::from_str(&text).map_err(|e| broken(&e.to_string()))?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&file.secret, &mut *seed).map_err(|e| broken(&e.to_string()))?;
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
    use super::*;

    #[test]
    fn a_key_file_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let key = read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().public(), key.public());
        assert!(write(&path, &key).is_err(), "an existing key is never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).is_err());
        assert_eq!(read_brought(&path).unwrap().public(), key.public());
        fs::write(&path, vec![b' '; 100_000]).unwrap();
        assert!(read_brought(&path).unwrap_err().message().contains("100000 bytes"));
    }
}
