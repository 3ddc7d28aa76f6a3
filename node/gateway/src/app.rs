//! What all handlers share.

use std::{ops::Deref, sync::Arc};

use deepmarket_net::Net;
use deepmarket_types::ChainId;
use tokio_util::sync::CancellationToken;

use crate::{chain::Chain, limits::Guests, metrics::Metrics, progress::ProgressStore, quota::Quota, registrar::Registrar};

/// A cheap handle to what handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub market: String,
    pub validator: String,
    pub chain_id: ChainId,
    pub genesis: String,
    pub gateways: Vec<String>,
    pub chain: Chain,
    pub net: Net,
    pub progress: ProgressStore,
    pub quota: Quota,
    pub registrar: Option<Registrar>,
    pub metrics: Metrics,
    pub guests: Arc<Guests>,
    pub stop: CancellationToken,
}

impl App {
    pub(crate) fn new(shared: Shared) -> App {
        App(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
