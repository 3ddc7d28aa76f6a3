//! What handlers take from a request. Each refuses with an error body, and reads no more than its bound.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
};
use futures::StreamExt as _;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use tokio::time::{Instant, timeout_at};

use crate::error::Refusal;

/// The most bytes beyond a limit that are read and thrown away, so that the sender reads the refusal rather than a reset.
const DRAIN_BYTES: u64 = 2 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long a small body may take, and how long a large one may bring nothing.
const BODY_TIME: Duration = Duration::from_secs(10);
/// The bytes of a large body that come in a second at least.
const SLOWEST_BYTES: u64 = 64 * 1024;

/// The one path parameter of a route, parsed.
pub(crate) struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| Refusal::BadRequest(e.body_text()))?;
        text.parse().map(Id).map_err(|e: T::Err| Refusal::BadRequest(e.to_string()))
    }
}

/// The query, parsed.
pub(crate) struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(value) = Query::<T>::from_request_parts(parts, state).await.map_err(|e| Refusal::BadRequest(e.body_text()))?;
        Ok(Params(value))
    }
}

/// A place in a history, written `height-index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub u64, pub u32);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let place = text.split_once('-').and_then(|(h, i)| Some(Place(h.parse().ok()?, i.parse().ok()?)));
        place.ok_or_else(|| D::Error::custom("a place is written height-index, for example 120-3"))
    }
}

/// A body of at most `N` bytes.
pub(crate) struct Bounded<const N: usize>(pub Bytes);

impl<S: Send + Sync, const N: usize> FromRequest<S> for Bounded<N> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        read(request.into_body(), N as u64).await.map(Bounded)
    }
}

/// A JSON body of at most `N` bytes.
pub(crate) struct Parsed<T, const N: usize>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const N: usize> FromRequest<S> for Parsed<T, N> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Bounded(bytes) = Bounded::<N>::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(Parsed).map_err(|e| Refusal::BadRequest(format!("the body isn't as expected: {e}")))
    }
}

/// Reads a body of at most `limit` bytes, which has a time to come: who sends a byte a second holds nothing up.
pub(crate) async fn read(body: Body, limit: u64) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_u64);
    let whole = BODY_TIME + Duration::from_secs(limit / SLOWEST_BYTES);
    let end = Instant::now() + whole;
    let late = |_| Refusal::Timeout { seconds: whole.as_secs() };
    while let Some(chunk) = timeout_at(end.min(Instant::now() + BODY_TIME), stream.next()).await.map_err(late)? {
        let chunk = chunk.map_err(|e| Refusal::BadRequest(format!("the body broke off: {e}")))?;
        length += chunk.len() as u64;
        if length <= limit {
            bytes.extend_from_slice(&chunk);
        } else if length > limit + DRAIN_BYTES {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if length > limit { Err(Refusal::TooLarge { limit }) } else { Ok(bytes.into()) }
}

/// Throws a bounded part of a body away before it is refused.
pub(crate) async fn drain(body: Body) {
    let mut stream = body.into_data_stream();
    let thrown_away = async {
        let mut length = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            length += chunk.len() as u64;
            if length > DRAIN_BYTES {
                return;
            }
        }
    };
    // Who sends nothing more is answered now.
    tokio::time::timeout(DRAIN_TIME, thrown_away).await.ok();
}
