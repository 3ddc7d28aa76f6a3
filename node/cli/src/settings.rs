use std::{fs, path::PathBuf};

use deepmarket_api::Client;
use deepmarket_types::SecretKey;
use deepmarket_wallet::datasets::Datasets;
use serde::Deserialize;

use crate::{
    accounts::Accounts,
    args::Args,
    error::{Failure, Outcome, io},
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
                .ok_or_else(|| Failure::environment("this user has no home folder").with_hint("name a folder with --home"))?
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
                Failure::user("no market is known").with_hint(
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
