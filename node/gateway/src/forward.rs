//! Gives what users submitted here to the other gateways, so that whoever proposes next can put it into a
//! block. Best effort: a gateway that is slow or down loses transactions here and never holds anybody up; clients submit
//! again elsewhere where theirs doesn't come.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Transactions that wait for one gateway; with 96 KiB each at most 96 MiB, usually a few hundred KiB.
const QUEUE: usize = 1024;
/// Requests to one gateway at once.
const AT_ONCE: usize = 16;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes that several queues share.
struct SharedBytes(Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Begins to forward to other gateways, until `stop`.
pub(crate) fn start(app: &App, others: Vec<String>, stop: &CancellationToken) -> Result<(), reqwest::Error> {
    if others.is_empty() {
        return Ok(());
    }
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(AT_ONCE)
        .pool_idle_timeout(deepmarket_api::client::IDLE)
        .build()?;
    let queues: Vec<mpsc::Sender<Bytes>> = others
        .into_iter()
        .map(|address| {
            let (queue, inbox) = mpsc::channel(QUEUE);
            tokio::spawn(deliver(http.clone(), address, inbox));
            queue
        })
        .collect();
    let (app, stop) = (app.clone(), stop.clone());
    let mut accepted = app.chain.accepted();
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = accepted.recv() => next,
            };
            let bytes = match next {
                Ok(bytes) => Bytes::from_owner(SharedBytes(bytes)),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "too many transactions to forward them all");
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            for queue in &queues {
                // A full queue is a gateway that doesn't keep up.
                queue.try_send(bytes.clone()).ok();
            }
        }
    });
    Ok(())
}

/// Posts to one gateway until the queue's sender is gone.
async fn deliver(http: reqwest::Client, address: String, inbox: mpsc::Receiver<Bytes>) {
    let url = format!("{}/v1/transactions?forward=false", address.trim_end_matches('/'));
    ReceiverStream::new(inbox)
        .for_each_concurrent(AT_ONCE, |bytes| {
            let request = http.post(&url).header("content-type", "application/octet-stream").body(bytes);
            let url = &url;
            async move {
                match request.send().await {
                    // What the other one refuses it has from elsewhere, or judges by a newer block.
                    Ok(response) => drop(response.bytes().await),
                    Err(error) => tracing::debug!(url, %error, "a transaction wasn't forwarded"),
                }
            }
        })
        .await;
}
