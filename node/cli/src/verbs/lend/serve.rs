use std::path::Path;

use deepmarket_api::Client;
use deepmarket_wallet::{keys, this_computer};
use deepmarket_worker::WorkerConfig;
use tokio_util::sync::CancellationToken;

use super::machine;
use crate::{
    args::Reach,
    error::{Outcome, of_worker},
    processes::{stop_signal, trainer},
    settings::Settings,
};

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
        trainer: trainer()?.into(),
    };
    deepmarket_worker::run(config, stop).await.map_err(of_worker)
}

/// Other workers must reach this machine. Where the market is on this very host they are too, and nothing is opened to others.
fn default_listen(gateways: &[String]) -> &'static str {
    match gateways.iter().all(|gateway| this_computer::has(gateway)) {
        true => "/ip4/127.0.0.1/tcp/0",
        false => "/ip4/0.0.0.0/tcp/0",
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
    }
}
