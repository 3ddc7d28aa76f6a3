use std::path::Path;

use deepmarket_api::{ApiError, Client};
use deepmarket_types::{Action, ChangeMode, MachineId, SecretKey};
use deepmarket_wallet::keys;
use deepmarket_worker::WorkerConfig;
use tokio_util::sync::CancellationToken;

use super::machine;
use crate::{
    args::Reach,
    error::{Outcome, of_worker},
    processes::{stop_signal, trainer},
    settings::Settings,
};

/// The ledger's code for a machine of which nothing is offered.
const NOT_OFFERED: u16 = 2039;

/// `lend run`: a part of the local market.
pub async fn run(settings: &Settings, folder: &Path, reach: &Reach, with_parent: bool) -> Outcome {
    let stop = stop_signal(with_parent)?;
    serve(&settings.client()?, folder, reach, stop).await
}

/// Works for others until stopped.
pub async fn serve(client: &Client, folder: &Path, reach: &Reach, stop: CancellationToken) -> Outcome {
    let listen = reach.listen.as_deref().unwrap_or_else(|| default_listen(client.gateways()));
    let config = WorkerConfig {
        home: folder.to_owned(),
        chain: client.status().await?.chain,
        key: keys::read(&machine::key_path(folder))?,
        client: client.clone(),
        listen: vec![listen.to_owned()],
        announce: reach.public_address.clone(),
        trainer: trainer()?,
    };
    deepmarket_worker::run(config, stop).await.map_err(of_worker)
}

/// Other workers must reach this machine. Where the market is on this very host they are too, and nothing is opened to others.
fn default_listen(gateways: &[String]) -> &'static str {
    match gateways.iter().all(|gateway| is_loopback(gateway)) {
        true => "/ip4/127.0.0.1/tcp/0",
        false => "/ip4/0.0.0.0/tcp/0",
    }
}

/// Is it a gateway on this host, by its address?
pub fn is_loopback(gateway: &str) -> bool {
    let host = gateway.split_once("://").map_or(gateway, |(_, rest)| rest);
    host.starts_with("127.") || host.starts_with("[::1]") || host == "localhost" || host.starts_with("localhost:")
}

/// Ends an offer at once; one that has ended already (its time was up, or its owner ended it elsewhere) is fine.
pub async fn withdraw(client: &Client, owner: &SecretKey, machine: MachineId) -> Outcome {
    match client.act(owner, Action::Withdraw { machine, mode: ChangeMode::AtOnce }).await {
        Err(ApiError::Rejected { code: NOT_OFFERED, .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_a_market_elsewhere_listens_to_others() {
        let listen = |gateways: &[&str]| default_listen(&gateways.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>());
        assert_eq!(listen(&["http://127.0.0.1:8600", "http://localhost:1", "http://[::1]:2"]), "/ip4/127.0.0.1/tcp/0");
        assert_eq!(listen(&["http://127.0.0.1:8600", "http://validator1.pdx.edu:8600"]), "/ip4/0.0.0.0/tcp/0");
        assert!(!is_loopback("http://localhost.example.edu:80"));
    }
}
