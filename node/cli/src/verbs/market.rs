//! What several verbs ask of the market.

use deepmarket_api::Client;
use deepmarket_genesis::Genesis;

use crate::{
    error::{Failure, Outcome},
    when::MarketClock,
};

/// The slots of the day, as job files and prices name them.
pub const SLOT_NAMES: [&str; 4] = ["00-06", "06-12", "12-18", "18-24"];

/// A slot's name.
pub fn slot_name(slot: u8) -> &'static str {
    SLOT_NAMES.get(usize::from(slot)).copied().unwrap_or("?")
}

/// The market's clock: its zone and slots are in the genesis document, its time is that of its last block.
pub async fn clock(client: &Client) -> Outcome<MarketClock> {
    let text = client.genesis().await?;
    let genesis = Genesis::from_toml(&text).map_err(|e| {
        Failure::environment(format!("the market's genesis document: {e}")).with_hint("is this program of the market's release?")
    })?;
    Ok(MarketClock { slots: genesis.params.slots, now: client.status().await?.time })
}
