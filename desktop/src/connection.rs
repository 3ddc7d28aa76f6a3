//! The chosen market: gateways that were seen to be of it, and the check that they still are.

use std::time::Duration;

use deepmarket_api::{Client, Status};
use deepmarket_genesis::Genesis;
use deepmarket_types::{ChainId, SlotClock};
use futures::future::join_all;
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    error::{Answer, OTHER_MARKET},
    view::CommandError,
};

/// How long other gateways may take to say which market they are of.
const ASK: Duration = Duration::from_secs(2);
/// The most gateways that are asked: how many there are is the first one's word.
const MAX_GATEWAYS: usize = 32;

pub struct Chosen {
    /// The address that the user chose.
    pub gateway: String,
    /// The genesis document's hash: this is the market.
    pub chain: ChainId,
    client: Client,
    clock: OnceCell<SlotClock>,
}

impl Chosen {
    pub fn new(gateway: String, chain: ChainId, others: Vec<String>) -> Answer<Chosen> {
        let client = Client::new(std::iter::once(gateway.clone()).chain(others).collect())?.only(chain);
        Ok(Chosen { gateway, chain, client, clock: OnceCell::new() })
    }

    /// All gateways' addresses.
    pub fn gateways(&self) -> &[String] {
        self.client.gateways()
    }

    /// Not asked whether it is still the chosen market.
    pub fn unchecked(&self) -> &Client {
        &self.client
    }

    /// The market's client, if what answers is still the market that was chosen.
    pub async fn checked(&self) -> Answer<Client> {
        self.status().await.map(|_| self.client.clone())
    }

    /// How the market stands, if it is still the market that was chosen.
    pub async fn status(&self) -> Answer<Status> {
        let status = self.client.status().await?;
        check(&self.chain, &status)?;
        Ok(status)
    }

    /// How the market divides its days: a part of its genesis document.
    pub async fn clock(&self) -> Answer<SlotClock> {
        let read = || async {
            let text = self.client.genesis().await?;
            let genesis = Genesis::from_toml(&text).map_err(|error| {
                let message = format!("the market's genesis document can't be read: {error}");
                CommandError::new(OTHER_MARKET, message, "is PLUTO of the market's release?")
            })?;
            match genesis.chain_id() == self.chain {
                true => Ok(genesis.params.slots),
                false => Err(other_market(&genesis.name, &genesis.chain_id())),
            }
        };
        self.clock.get_or_try_init(read).await.copied()
    }
}

/// Refuses a market that isn't the expected one.
pub fn check(expected: &ChainId, status: &Status) -> Answer {
    if status.chain == *expected {
        return Ok(());
    }
    Err(other_market(&status.name, &status.chain))
}

pub fn other_market(name: &str, chain: &ChainId) -> CommandError {
    let message = format!("another market answers: '{name}' with the genesis hash {}", chain.to_hex());
    let hint = "nothing was sent to it. Choose the market again if this is meant, or ask who runs it";
    CommandError::new(OTHER_MARKET, message, hint)
}

/// The gateways of a market: those that were known, unless they say by now that they are of another one, and those that these
/// name, where they say that they are of this one.
pub async fn gateways(client: &Client, chain: &ChainId) -> Vec<String> {
    let known = client.gateways().iter().map(|gateway| (gateway.clone(), true));
    let named = timeout(ASK, client.network()).await.ok().and_then(Result::ok).map(|network| network.gateways);
    let all = known.chain(named.unwrap_or_default().into_iter().map(|gateway| (gateway, false)));
    let asks = all.take(MAX_GATEWAYS).map(|(gateway, known)| async move {
        let client = Client::new(vec![gateway]).ok()?;
        let said = timeout(ASK, client.status()).await.ok().and_then(Result::ok).map(|status| status.chain);
        said.map_or(known, |said| said == *chain).then(|| client.gateways()[0].clone())
    });
    join_all(asks).await.into_iter().flatten().collect()
}

/// The gateway of a market that `deepmarket up` runs on this computer, if it answers.
pub async fn local() -> Option<String> {
    #[derive(serde::Deserialize)]
    struct MarketFile {
        gateways: Vec<String>,
    }
    let home = std::env::var_os("DEEPMARKET_HOME").map(Into::into).or_else(|| Some(std::env::home_dir()?.join(".deepmarket")))?;
    let file: MarketFile = crate::home::read_json(&home.join("market").join("market.json"))?;
    for gateway in file.gateways {
        let client = Client::new(vec![gateway]).ok()?;
        if let Ok(Ok(_)) = timeout(Duration::from_secs(1), client.status()).await {
            return client.gateways().first().cloned();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Hash, Height, TimeMs};

    use super::*;

    #[test]
    fn another_market_at_a_known_address_is_refused() {
        let mut status = Status {
            name: "psu".into(),
            chain: Hash::of(b"chosen"),
            height: Height(1),
            time: TimeMs(0),
            block: Hash::default(),
            state_root: Hash::default(),
            validator: "v".into(),
            validators: 4,
            mempool: 0,
            version: "0".into(),
        };
        let chosen = status.chain;
        assert!(check(&chosen, &status).is_ok());
        status.chain = Hash::of(b"another");
        let error = check(&chosen, &status).unwrap_err();
        assert_eq!((error.code, error.retryable), (OTHER_MARKET, false));
        assert!(error.message.contains(&status.chain.to_hex()), "{}", error.message);
    }
}
