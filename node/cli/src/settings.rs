use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use deepmarket_api::Client;
use deepmarket_types::{Hash, SecretKey};
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    error::{Failure, Outcome, io},
    keys::Accounts,
    local_market::MarketFile,
    output::Output,
};

/// `config.toml` in the home folder.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    gateways: Vec<String>,
    account: Option<String>,
}

/// What all verbs share, resolved once: flags over environment (clap does both) over `config.toml` over the local market.
pub struct Settings {
    pub home: PathBuf,
    pub output: Output,
    pub accounts: Accounts,
    gateways: Vec<String>,
    account: Option<String>,
}

impl Settings {
    pub fn resolve(args: &Args) -> Outcome<Settings> {
        let home = match &args.home {
            Some(home) => home.clone(),
            None => std::env::home_dir()
                .ok_or_else(|| Failure::environment("this user has no home folder").hint("name a folder with --home"))?
                .join(".deepmarket"),
        };
        let path = home.join("config.toml");
        let file = if path.exists() {
            let text = fs::read_to_string(&path).map_err(io(path.display()))?;
            toml::from_str(&text).map_err(|e| Failure::user(format!("{}: {e}", path.display())))?
        } else {
            ConfigFile::default()
        };
        let gateways = [&args.gateway, &file.gateways].into_iter().find(|g| !g.is_empty()).cloned().unwrap_or_default();
        let account = args.account.clone().or(file.account);
        let accounts = Accounts::new(&home);
        Ok(Settings { output: Output::new(args.json), accounts, gateways, account, home })
    }

    /// The gateways that were named, or those of the local market.
    pub fn gateways(&self) -> Outcome<Vec<String>> {
        if !self.gateways.is_empty() {
            return Ok(self.gateways.clone());
        }
        Ok(MarketFile::read(&self.market_folder())?
            .ok_or_else(|| {
                Failure::user("no market is known").hint(
                    "start a local one with `deepmarket up`, or name a gateway: --gateway http://host:port (or DEEPMARKET_GATEWAY)",
                )
            })?
            .gateways)
    }

    pub fn client(&self) -> Outcome<Client> {
        Ok(Client::new(self.gateways()?)?)
    }

    pub fn market_folder(&self) -> PathBuf {
        self.home.join("market")
    }

    /// The key of the account that signs.
    pub fn signer(&self) -> Outcome<SecretKey> {
        Ok(self.accounts.key(self.account.as_deref())?.1)
    }

    pub fn account_name(&self) -> Option<&str> {
        self.account.as_deref()
    }

    pub fn datasets(&self) -> Datasets {
        Datasets::in_folder(&self.home)
    }
}

/// The names that `data add` gave on this machine.
pub struct Datasets {
    path: PathBuf,
}

/// One added dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// The manifest's blob.
    pub manifest: Hash,
    /// Samples of each split.
    pub splits: BTreeMap<String, u64>,
    /// Bytes of manifest and shards.
    pub bytes: u64,
}

impl Datasets {
    pub fn in_folder(folder: &Path) -> Self {
        Datasets { path: folder.join("datasets.json") }
    }

    pub fn read(&self) -> Outcome<BTreeMap<String, Dataset>> {
        if !self.path.exists() {
            return Ok(BTreeMap::new());
        }
        let text = fs::read_to_string(&self.path).map_err(io(self.path.display()))?;
        serde_json::from_str(&text).map_err(|e| Failure::environment(format!("{}: {e}", self.path.display())))
    }

    pub fn add(&self, name: &str, dataset: Dataset) -> Outcome {
        let mut all = self.read()?;
        all.insert(name.to_owned(), dataset);
        let text = serde_json::to_string_pretty(&all).map_err(Failure::bug)?;
        write_whole(&self.path, text.as_bytes())
    }
}

/// Writes a file so that a reader sees the old one or the new one, never a part.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Outcome {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io(folder.display()))?;
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(io(path.display()))
}
