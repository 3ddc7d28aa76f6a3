use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use deepmarket_types::{AccountId, SecretKey};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Outcome, io};

/// A secret key on disk: readable by its owner only (mode 0600), because validators and machines must start unattended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    /// What the file is, for people who find it.
    about: String,
    public: String,
    secret: String,
}

const ABOUT: &str = "DeepMarket secret key (ed25519 seed, hex). Who has it has the credits or the machine: never share it.";

/// Reads a key file; refuses one that others may read.
pub fn read(path: &Path) -> Outcome<SecretKey> {
    let mode = fs::metadata(path).map_err(io(path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::environment(format!("{} may be read by others (mode {:o})", path.display(), mode & 0o777))
            .hint(format!("chmod 600 {}", path.display())));
    }
    let broken = |why: &str| {
        Failure::environment(format!("{} is not a DeepMarket key file: {why}", path.display()))
            .hint("restore it from your copy; a key can't be made again")
    };
    let text = fs::read_to_string(path).map_err(io(path.display()))?;
    let file: KeyFile = serde_json::from_str(&text).map_err(|e| broken(&e.to_string()))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(&file.secret, &mut seed).map_err(|e| broken(&e.to_string()))?;
    let key = SecretKey::from_seed(seed);
    if key.public().to_string() != file.public {
        return Err(broken("its halves don't belong together"));
    }
    Ok(key)
}

/// Writes a new key file; never over an existing one.
pub fn write(path: &Path, key: &SecretKey) -> Outcome {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io(folder.display()))?;
    }
    let file = KeyFile { about: ABOUT.into(), public: key.public().to_string(), secret: hex::encode(key.seed()) };
    let text = serde_json::to_string_pretty(&file).map_err(Failure::bug)?;
    let mut open = fs::OpenOptions::new();
    let mut handle = open.write(true).create_new(true).mode(0o600).open(path).map_err(io(path.display()))?;
    handle.write_all(text.as_bytes()).and_then(|()| handle.sync_all()).map_err(io(path.display()))
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

/// The accounts whose keys are on this machine.
pub struct Accounts {
    folder: PathBuf,
}

impl Accounts {
    pub fn new(home: &Path) -> Self {
        Accounts { folder: home.join("accounts") }
    }

    pub fn path(&self, name: &str) -> Outcome<PathBuf> {
        let fine = !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !fine || name.starts_with('.') {
            return Err(Failure::user(format!("'{name}' can't be an account's name on this machine"))
                .hint("use at most 40 letters, digits, '-', '_' and '.'"));
        }
        Ok(self.folder.join(format!("{name}.json")))
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> Outcome<Vec<String>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(io(self.folder.display()))? {
            let name = entry.map_err(io(self.folder.display()))?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The key of a named account, or of the only one.
    pub fn key(&self, name: Option<&str>) -> Outcome<(String, SecretKey)> {
        let names = self.names()?;
        let name = match (name, names.as_slice()) {
            (Some(name), _) => name.to_owned(),
            (None, [only]) => only.clone(),
            (None, []) => {
                return Err(Failure::user("there is no account on this machine yet")
                    .hint("deepmarket account open --name <name> --identity <mail address>"));
            }
            (None, several) => {
                return Err(Failure::user(format!("there are several accounts on this machine: {}", several.join(", ")))
                    .hint("say which one with --account <name>"));
            }
        };
        let path = self.path(&name)?;
        if !path.exists() {
            return Err(Failure::user(format!("there is no account '{name}' on this machine")).hint("deepmarket account ls"));
        }
        Ok((name, read(&path)?))
    }

    /// An account id, or the id of a named account on this machine.
    pub fn resolve(&self, who: Option<&str>, default: Option<&str>) -> Outcome<AccountId> {
        if let Some(id) = who.and_then(|who| who.parse().ok()) {
            return Ok(id);
        }
        let (_, key) = self.key(who.or(default))?;
        Ok(AccountId::from_key(&key.public()))
    }
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
    }

    #[test]
    fn account_names_can_not_leave_their_folder() {
        let accounts = Accounts::new(Path::new("home"));
        for name in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(accounts.path(name).is_err(), "{name}");
        }
        assert!(accounts.path("alice-2").is_ok());
    }
}
