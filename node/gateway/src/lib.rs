//! The REST gateway of a validator: what users, workers and wallets talk to.
//!
//! ```text
//!  PLUTO, CLI, workers ──HTTP──▶ bounds ──▶ routes ──┬─▶ Chain (the validator beside it): submit, ledger, blocks
//!  (transactions are signed)                         ├─▶ Net: blobs
//!                        ◀── JSON, event streams ────┼─▶ ProgressStore: what workers report, off the chain
//!                                                    ├─▶ Registrar, where there is one
//!  Prometheus, browsers ──────────────────────────────┴─▶ Metrics; the explorer, static files that read the routes
//!  accepted transactions ──▶ forward ──▶ the other validators' gateways
//!  blobs of one holder ◀──── repair ◀─── the other gateways: each blob is at two at least
//! ```
//!
//! Everything from outside is bounded: bodies, waiting times, streams, uploads, requests at once, and what one address may ask and
//! hold ([`GatewayLimits`]). Every error is an
//! [`ErrorBody`](deepmarket_api::ErrorBody) with a stable code, also those of unknown routes, overload and panics.
//!
//! A gateway never holds a user's key, never changes the ledger except by giving signed transactions to the mempool, and never
//! vouches for what it says: blobs carry their hashes, blocks their certificates.

mod app;
mod bounds;
mod chain;
mod error;
mod extract;
mod forward;
mod limits;
mod listen;
mod metrics;
mod progress;
mod quota;
mod registrar;
mod repair;
mod routes;
mod views;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use deepmarket_consensus::Node;
use deepmarket_net::Net;
use deepmarket_types::ChainId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use limits::GatewayLimits;
pub use registrar::{BadIdentity, Registrar, RegistrarPolicy, identity_hash};

use app::{App, Shared};

/// How long requests that run may take to end when the gateway stops.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a gateway serves, and where.
pub struct GatewayConfig {
    /// Where to listen, `host:port`; port 0 for a free one.
    pub listen: String,
    /// The name of the validator beside it.
    pub validator: String,
    /// The genesis document as TOML.
    pub genesis: String,
    /// The market's name.
    pub market: String,
    /// The chain's id.
    pub chain: ChainId,
    /// The validator.
    pub node: Node,
    /// The blob peer.
    pub net: Net,
    /// A folder of its own, for what workers report.
    pub data: PathBuf,
    /// The registrar that gives vouchers here, if any.
    pub registrar: Option<Registrar>,
    /// The address of this gateway as users reach it; empty where the genesis document names none.
    pub own: String,
    /// The addresses of all gateways, this one included.
    pub gateways: Vec<String>,
    /// What each address may ask.
    pub limits: GatewayLimits,
}

/// Why a gateway doesn't start or ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address can't be listened on.
    #[error("the gateway can't listen on {listen}: {source}; is another one running there, or is the address another machine's?")]
    Listen {
        /// The address.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
    /// The data folder can't be used.
    #[error("the gateway can't use its folder {path}: {reason}; check its rights and the free space")]
    Data {
        /// The folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// The client for the other gateways can't be made.
    #[error("the gateway can't forward transactions: {0}")]
    Forward(#[from] reqwest::Error),
    /// Serving failed.
    #[error("the gateway ended: {0}")]
    Serve(String),
}

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    serving: JoinHandle<Result<(), GatewayError>>,
}

impl Gateway {
    /// Serves until `stop`.
    pub async fn serve(config: GatewayConfig, stop: CancellationToken) -> Result<(), GatewayError> {
        Gateway::start(config, stop).await?.ended().await
    }

    /// Begins to serve; it listens when this returns.
    pub async fn start(config: GatewayConfig, stop: CancellationToken) -> Result<Gateway, GatewayError> {
        let listen_error = |source| GatewayError::Listen { listen: config.listen.clone(), source };
        let listener = tokio::net::TcpListener::bind(&config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;

        let folder = config.data.join("progress");
        let data_error = |reason: String| GatewayError::Data { path: config.data.display().to_string(), reason };
        let progress = progress::ProgressStore::open(folder).map_err(|e| data_error(e.to_string()))?;
        let stored = config.net.blobs().list().map_err(|e| data_error(e.to_string()))?.iter().map(|(_, bytes)| bytes).sum();
        let others: Vec<String> = config.gateways.iter().filter(|gateway| **gateway != config.own).cloned().collect();
        let guests = Arc::new(limits::Guests::new(config.limits));
        guests.keep(config.gateways.clone(), stop.clone());
        let app = App::new(Shared {
            market: config.market,
            validator: config.validator,
            chain_id: config.chain,
            genesis: config.genesis,
            gateways: config.gateways,
            chain: chain::Chain::follow(config.node, stop.clone()),
            net: config.net,
            progress,
            quota: quota::Quota::new(stored),
            registrar: config.registrar,
            metrics: metrics::Metrics::default(),
            guests: guests.clone(),
            stop: stop.clone(),
        });
        repair::start(&app, config.own, others.clone());
        forward::start(&app, others, &stop)?;
        let router = bounds::router(app);
        tracing::info!(%address, "gateway listens");

        let serving = tokio::spawn(async move {
            let serve = listen::serve(listener, router, guests, stop.clone());
            let farewell = async {
                stop.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            };
            tokio::select! {
                () = serve => {}
                () = farewell => {}
            }
            Ok(())
        });
        Ok(Gateway { address, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it ended.
    pub async fn ended(self) -> Result<(), GatewayError> {
        self.serving.await.unwrap_or_else(|e| Err(GatewayError::Serve(e.to_string())))
    }
}
