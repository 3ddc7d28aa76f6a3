//! The router, and what every request passes before its handler: how often, how many at once, how long, what a panic becomes.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{Any as AnyOrigin, CorsLayer},
    trace::TraceLayer,
};

use crate::{
    app::App,
    error::Refusal,
    limits::Guest,
    routes::{Lane, table},
};

/// Ordinary requests at once. Those that wait for a block count, but cost no more than their connection.
const ORDINARY: usize = 2048;
/// The longest that an ordinary request takes: the longest wait for a block, and room around it.
const ORDINARY_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a refusal takes for what comes too often.
const PENALTY: Duration = Duration::from_millis(250);
/// Blobs that are moved at once.
const BULK: usize = 64;
/// The longest that an upload takes: 256 MiB at about 1 MiB/s. (A download is as long as its reader reads.)
const BULK_TIMEOUT: Duration = Duration::from_secs(300);

/// How many requests of a lane run at once, and how long each may take until it answers.
#[derive(Clone)]
struct Bound {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Bound {
    fn new(permits: usize, timeout: Duration) -> Bound {
        Bound { permits: Arc::new(Semaphore::new(permits)), timeout }
    }
}

async fn bounded(State(bound): State<Bound>, State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    let _permit = bound.permits.try_acquire().map_err(|_| Refusal::Busy)?;
    tokio::select! {
        response = tokio::time::timeout(bound.timeout, next.run(request)) => {
            response.map_err(|_| Refusal::Timeout { seconds: bound.timeout.as_secs() })
        }
        // Who waits for a block learns at once that this gateway won't tell.
        () = app.stop.cancelled() => Err(Refusal::Stopping),
    }
}

/// Refuses what comes too often from one address.
async fn limited(
    State(app): State<App>,
    Extension(guest): Extension<Guest>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if let Err(refusal) = app.guests.admit(guest, &request) {
        // Who doesn't wait is made to: a refusal at once would be answered by the next request at once.
        tokio::time::sleep(PENALTY).await;
        return Err(refusal);
    }
    Ok(next.run(request).await)
}

/// Counts what is answered, refusals and panics as well. A stream counts when it begins.
async fn counted(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    app.metrics.count(&method, route.as_ref().map(MatchedPath::as_str), response.status());
    response
}

/// All routes within their bounds.
pub(crate) fn router(app: App) -> Router {
    let lane = |lane: Lane| {
        let rows = table().into_iter().filter(|route| route.lane == lane);
        rows.fold(Router::new(), |router, route| router.route(route.path, route.handler))
    };
    let within = |router: Router<App>, bound: Bound| {
        let app = app.clone();
        router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
            bounded(State(bound.clone()), State(app.clone()), request, next)
        }))
    };
    // A browser may read; writes are signed and come from programs.
    let cors = CorsLayer::new().allow_origin(AnyOrigin).allow_methods([Method::GET, Method::HEAD]);
    // Streams bound themselves: they outlive their handlers.
    within(lane(Lane::Ordinary), Bound::new(ORDINARY, ORDINARY_TIMEOUT))
        .merge(within(lane(Lane::Bulk), Bound::new(BULK, BULK_TIMEOUT)))
        .merge(lane(Lane::Stream))
        .fallback(unknown_route)
        .method_not_allowed_fallback(bad_method)
        .layer(middleware::from_fn_with_state(app.clone(), limited))
        .layer(cors)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TraceLayer::new_for_http())
        .layer(middleware::from_fn_with_state(app.clone(), counted))
        .with_state(app)
}

async fn unknown_route(uri: Uri) -> Refusal {
    Refusal::UnknownRoute(uri.path().chars().take(200).collect())
}

async fn bad_method(method: Method, uri: Uri) -> Refusal {
    Refusal::BadMethod(format!("{method} {}", uri.path().chars().take(200).collect::<String>()))
}

fn panicked(panic: Box<dyn Any + Send>) -> axum::http::Response<Body> {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = text.as_deref().unwrap_or("without a message"), "a handler panicked");
    Refusal::Internal("a bug".into()).into_response()
}
