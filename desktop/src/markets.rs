//! Remembered markets. An address is only a way to a market; the hash of the genesis document is the market.

use std::{collections::BTreeMap, path::Path};

use deepmarket_api::Status;
use deepmarket_types::{AccountId, ChainId};
use serde::{Deserialize, Serialize};

use crate::{
    error::Answer,
    home::{read_json, write_json},
    view::Market,
};

/// `markets.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Markets {
    /// The gateway that was chosen last.
    last: Option<String>,
    /// Which market each gateway was of, when it was chosen.
    gateways: BTreeMap<String, ChainId>,
    /// What is known of each market.
    chains: BTreeMap<String, Known>,
}

/// What is known of a market.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// As it called itself.
    pub name: String,
    pub validators: u32,
    /// The last block that was seen.
    pub height: u64,
    /// Gateways of it, the chosen one first: each was asked for its chain.
    pub gateways: Vec<String>,
    /// Accounts of this computer that are open on it.
    pub open: Vec<AccountId>,
}

impl Markets {
    pub fn read(path: &Path) -> Markets {
        read_json(path).unwrap_or_default()
    }

    pub fn write(&self, path: &Path) -> Answer {
        write_json(path, self)
    }

    /// The market that was chosen last, or that of a preselected gateway where that was chosen before.
    pub fn last(&self, preselected: Option<&str>) -> Option<(String, ChainId, Known)> {
        let gateway = preselected.or(self.last.as_deref())?;
        let chain = *self.gateways.get(gateway)?;
        Some((gateway.to_owned(), chain, self.known(&chain)))
    }

    pub fn known(&self, chain: &ChainId) -> Known {
        self.chains.get(&chain.to_hex()).cloned().unwrap_or_default()
    }

    /// A market as its gateway shows it, beside what is remembered.
    pub fn view(&self, gateway: &str, status: &Status) -> Market {
        let before = self.gateways.get(gateway).filter(|before| **before != status.chain);
        Market {
            gateway: gateway.to_owned(),
            name: status.name.clone(),
            chain: status.chain.to_hex(),
            validators: status.validators,
            height: status.height.0,
            known: self.chains.contains_key(&status.chain.to_hex()),
            was: before.map(ChainId::to_owned).map(ChainId::to_hex),
        }
    }

    /// Remembers a market that the user chose.
    pub fn choose(&mut self, gateway: &str, status: &Status, gateways: Vec<String>) {
        self.last = Some(gateway.to_owned());
        self.gateways.insert(gateway.to_owned(), status.chain);
        self.seen(status, gateways);
    }

    /// Remembers how a market stands and which gateways it has.
    pub fn seen(&mut self, status: &Status, gateways: Vec<String>) {
        let known = self.chains.entry(status.chain.to_hex()).or_default();
        let (name, validators, height) = (status.name.clone(), status.validators, status.height.0);
        *known = Known { name, validators, height, gateways, open: std::mem::take(&mut known.open) };
    }

    /// Remembers that an account is open on a market, so that it can be unlocked without a connection.
    pub fn opened(&mut self, chain: &ChainId, account: AccountId) {
        let known = self.chains.entry(chain.to_hex()).or_default();
        if !known.open.contains(&account) {
            known.open.push(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Hash, Height, TimeMs};

    use super::*;

    const GATEWAY: &str = "http://127.0.0.1:8600";

    fn status(genesis: &[u8]) -> Status {
        Status {
            name: "local".into(),
            chain: Hash::of(genesis),
            height: Height(7),
            time: TimeMs(0),
            block: Hash::default(),
            state_root: Hash::default(),
            validator: "local-0".into(),
            validators: 4,
            mempool: 0,
            version: "0".into(),
        }
    }

    #[test]
    fn a_market_is_trusted_on_first_use_and_another_one_at_its_address_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("markets.json");
        let mut markets = Markets::read(&path);
        let (first, second) = (status(b"first"), status(b"second"));
        let view = markets.view(GATEWAY, &first);
        assert_eq!((view.known, view.was, view.validators, view.height), (false, None, 4, 7));
        markets.choose(GATEWAY, &first, vec![GATEWAY.into(), "http://127.0.0.1:8601".into()]);
        markets.write(&path).unwrap();

        let mut markets = Markets::read(&path);
        assert!(markets.view(GATEWAY, &first).known);
        assert!(markets.view("http://elsewhere:1", &first).known, "the same market at another address");
        let view = markets.view(GATEWAY, &second);
        assert_eq!((view.known, view.was), (false, Some(first.chain.to_hex())));
        let (gateway, chain, known) = markets.last(None).unwrap();
        assert_eq!((gateway.as_str(), chain, known.gateways.len()), (GATEWAY, first.chain, 2));
        assert!(markets.last(Some("http://elsewhere:1")).is_none(), "nobody chose it");

        // Chosen all the same: from now on it is the known one.
        markets.choose(GATEWAY, &second, vec![GATEWAY.into()]);
        assert_eq!(markets.view(GATEWAY, &second).was, None);
    }

    #[test]
    fn open_accounts_stay_remembered() {
        let mut markets = Markets::default();
        let (status, account) = (status(b"x"), AccountId([1; 20]));
        markets.choose(GATEWAY, &status, vec![]);
        markets.opened(&status.chain, account);
        markets.opened(&status.chain, account);
        markets.choose(GATEWAY, &status, vec![]);
        assert_eq!(markets.known(&status.chain).open, [account]);
    }
}
