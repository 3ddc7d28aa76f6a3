//! The folder that PLUTO keeps its files in.
//!
//! | file | what |
//! |---|---|
//! | `accounts/<name>.json` | encrypted key files |
//! | `settings.json` | what the user set |
//! | `markets.json` | remembered markets |
//! | `markets/<chain>/datasets.json` | datasets that were imported |
//! | `node/<account id>/` | home of the account's compute node |
//! | `lock` | held while PLUTO runs |

use std::{
    fs::{self, File, Permissions, TryLockError},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use deepmarket_types::{AccountId, ChainId};
use deepmarket_wallet::files::{make_private_folder, write_whole};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Answer, BAD_INPUT, bug, io};
use crate::view::CommandError;

/// The most characters of an account's name on this computer.
const MAX_NAME: usize = 40;

pub struct Home {
    folder: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Home {
    /// Opens the folder for this process alone.
    pub fn open(folder: PathBuf) -> Answer<Home> {
        // What is in it is nobody else's business: also which markets and datasets one uses.
        make_private_folder(&folder)?;
        // One that is there is PLUTO's own all the same: it is closed, whoever opened it.
        let mode = fs::metadata(&folder).map_err(io(folder.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(|error| {
                let message =
                    format!("others may look into PLUTO's folder {} (mode {:o}): {error}", folder.display(), mode & 0o777);
                CommandError::new(BAD_INPUT, message, "let it belong to you, or give PLUTO a folder of your own")
            })?;
        }
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io(path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Home { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(CommandError::new(BAD_INPUT, "PLUTO runs already", "use the window that is open, or close it first"))
            }
            Err(TryLockError::Error(error)) => Err(io(path.display())(error)),
        }
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.join("settings.json")
    }

    pub fn markets(&self) -> PathBuf {
        self.folder.join("markets.json")
    }

    /// What belongs to one market.
    pub fn market(&self, chain: &ChainId) -> PathBuf {
        self.folder.join("markets").join(chain.to_hex())
    }

    /// The home of an account's compute node.
    pub fn node(&self, account: AccountId) -> PathBuf {
        self.folder.join("node").join(account.to_string())
    }

    pub fn accounts(&self) -> PathBuf {
        self.folder.join("accounts")
    }

    /// The key file of a name.
    pub fn account(&self, name: &str) -> Answer<PathBuf> {
        check_name(name)?;
        Ok(self.accounts().join(format!("{name}.json")))
    }

    /// The names of the key files, in alphabetical order.
    pub fn account_names(&self) -> Answer<Vec<String>> {
        let folder = self.accounts();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io(folder.display()))? {
            let name = entry.map_err(io(folder.display()))?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }
}

/// Can a file have this name, everywhere?
fn check_name(name: &str) -> Answer {
    let fine = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if !name.is_empty()
        && name.chars().count() <= MAX_NAME
        && name.chars().all(fine)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(' ')
    {
        return Ok(());
    }
    let hint = "use at most 40 letters, digits, spaces, '-', '_' and '.', and begin with a letter or digit";
    Err(CommandError::new(BAD_INPUT, format!("'{name}' can't be an account's name on this computer"), hint))
}

/// Reads a file of JSON; none where it isn't there, or where another release wrote it in its own way.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file of JSON, so that a reader sees the old one or the new one.
pub fn write_json(path: &Path, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec_pretty(value).map_err(bug)?;
    Ok(write_whole(path, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_pluto_is_told_that_one_runs() {
        let folder = tempfile::tempdir().unwrap();
        let first = Home::open(folder.path().to_owned()).unwrap();
        let second = Home::open(folder.path().to_owned()).err().unwrap();
        assert!(second.message.contains("runs already"), "{second:?}");
        drop(first);
        assert!(Home::open(folder.path().to_owned()).is_ok());
    }

    #[test]
    fn the_folder_is_its_owners_also_where_it_was_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for (name, before) in [("new", None), ("open", Some(0o755)), ("open to all", Some(0o777))] {
            let own = folder.path().join(name);
            if let Some(before) = before {
                fs::create_dir(&own).unwrap();
                fs::set_permissions(&own, Permissions::from_mode(before)).unwrap();
            }
            drop(Home::open(own.clone()).unwrap());
            assert_eq!(mode(&own), 0o700, "{name}");
        }
    }

    #[test]
    fn names_can_be_those_of_people_and_never_leave_the_folder() {
        for fine in ["alice", "Zoë B.", "lab-7_x", "日本"] {
            assert!(check_name(fine).is_ok(), "{fine}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a\0", " a", "a ", &"x".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
