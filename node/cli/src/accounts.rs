use std::{
    fs,
    path::{Path, PathBuf},
};

use deepmarket_types::{AccountId, SecretKey};
use deepmarket_wallet::keys;

use crate::error::{Failure, Outcome, io};

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
                .with_hint("use at most 40 letters, digits, '-', '_' and '.'"));
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
                    .with_hint("deepmarket account open --name <name> --identity <mail address>"));
            }
            (None, several) => {
                return Err(Failure::user(format!("there are several accounts on this machine: {}", several.join(", ")))
                    .with_hint("say which one with --account <name>"));
            }
        };
        let path = self.path(&name)?;
        if !path.exists() {
            return Err(Failure::user(format!("there is no account '{name}' on this machine")).with_hint("deepmarket account ls"));
        }
        Ok((name, keys::read(&path)?))
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
    fn account_names_can_not_leave_their_folder() {
        let accounts = Accounts::new(Path::new("home"));
        for name in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(accounts.path(name).is_err(), "{name}");
        }
        assert!(accounts.path("alice-2").is_ok());
    }
}
