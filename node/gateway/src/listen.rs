//! The server: accepts connections as far as there is room, and gives each a time in which a request's head must come.
//!
//! `axum::serve` has neither limit: a client that sends a byte a minute would hold its connection for ever.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    error::Refusal,
    limits::{Guest, Guests, Place},
};

/// The most bytes of a request's head; what is read at once of a body.
const BUFFER: usize = 128 * 1024;
/// How long it takes until files may be free again, where there were none for a connection.
const NO_FILES: Duration = Duration::from_millis(200);

/// Serves until `stop`, and then until all requests that run have ended.
pub(crate) async fn serve(listener: TcpListener, router: Router, guests: Arc<Guests>, stop: CancellationToken) {
    let running = TaskTracker::new();
    loop {
        let (stream, guest) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = stop.cancelled() => break,
        };
        match guests.connect(guest) {
            Ok(place) => {
                let time = guests.header_timeout();
                running.spawn(connection(stream, guest, place, router.clone(), time, stop.clone()));
            }
            Err(refusal) => refuse(stream, &refusal),
        }
    }
    running.close();
    running.wait().await;
}

/// The next connection. What goes wrong with one is nobody else's business.
async fn accept(listener: &TcpListener) -> (TcpStream, Guest) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, Guest::new(peer.ip())),
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted just now");
                tokio::time::sleep(NO_FILES).await;
            }
        }
    }
}

fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection.
async fn connection(stream: TcpStream, guest: Guest, _place: Place, router: Router, time: Duration, stop: CancellationToken) {
    // Small answers to waiting clients must not wait for more of them.
    stream.set_nodelay(true).ok();
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let guest = guest.behind(request.headers());
        request.extensions_mut().insert(guest);
        service.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(time).max_buf_size(BUFFER);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Says why to a connection that gets no place, as far as that costs no time.
fn refuse(stream: TcpStream, refusal: &Refusal) {
    use std::io::{Read as _, Write as _};
    tracing::debug!(%refusal, "a connection was refused");
    let Ok(mut stream) = stream.into_std() else { return };
    // It is not waited for; what has come already is read, so that the answer isn't lost with it.
    let _ = stream.write(&refusal.raw());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 4096]);
}
