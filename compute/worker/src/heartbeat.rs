//! Keeps the machine's offer alive, and tells where the machine is reached.

use std::{sync::Arc, time::Duration};

use deepmarket_api::ApiError;
use deepmarket_types::{Action, Height, MachineId, Transaction};
use tokio::time::sleep;

use crate::lease::Context;

/// How long one heartbeat waits for a block.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
/// How many blocks a heartbeat stays valid: an old one is worth nothing.
const VALID_BLOCKS: u64 = 100;
/// The pause after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Sends heartbeats until it is dropped. The first one, and each after a change, carries the addresses.
pub(crate) async fn beat(context: Arc<Context>, heartbeat_ms: u64) {
    let every = Duration::from_millis(heartbeat_ms.clamp(100, 3_600_000));
    let mut told = None;
    loop {
        let mut addresses = if context.announce.is_empty() { context.net.addresses() } else { context.announce.clone() };
        addresses.truncate(Transaction::MAX_ADDRESSES);
        let news = (told.as_ref() != Some(&addresses)).then(|| addresses.clone());
        match once(&context, news).await {
            Ok(()) => {
                told = Some(addresses);
                sleep(every).await;
            }
            Err(why) => {
                tracing::debug!("a heartbeat failed: {why}");
                sleep(RETRY.min(every)).await;
            }
        }
    }
}

async fn once(context: &Context, addresses: Option<Vec<String>>) -> Result<(), String> {
    let words = |e: ApiError| e.to_string();
    let machine = context.client.machine(MachineId::from_key(&context.key.public())).await.map_err(words)?;
    let machine = machine.ok_or("this machine isn't registered on the chain yet; `deepmarket lend start` does it")?;
    let height = context.client.status().await.map_err(words)?.height.0;
    let expires = Height(height.saturating_add(VALID_BLOCKS));
    let heartbeat = Transaction::sign(&context.key, &context.chain, machine.nonce, expires, Action::Heartbeat { addresses });
    context.client.submit(&heartbeat, SUBMIT_WITHIN).await.map_err(words)?;
    Ok(())
}
