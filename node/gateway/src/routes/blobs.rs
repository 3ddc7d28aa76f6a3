use std::io::SeekFrom;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use deepmarket_api::{ErrorBody, KEY_HEADER, MAX_BLOB_BYTES, SIGNATURE_HEADER, client::BlobEntry, upload_content};
use deepmarket_types::{Domain, Hash, PublicKey, Signature};
use serde::Deserialize;
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use crate::{
    app::App,
    error::Refusal,
    extract::{self, Id, Params},
    views,
};

/// The most blobs of one listing.
const MAX_LISTED: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Only those after this one.
    #[param(value_type = Option<String>)]
    after: Option<Hash>,
    /// At most so many, 10,000 at most and unless told.
    limit: Option<usize>,
}

/// The blobs that are here, in order of their hashes.
#[utoipa::path(get, path = "/v1/blobs", tag = "blobs", params(ListParams), responses(
    (status = 200, body = Vec<BlobEntry>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Result<Json<Vec<BlobEntry>>, Refusal> {
    let list = move || app.net.blobs().list();
    let all = super::blocking(list).await?.map_err(|e| Refusal::Internal(e.to_string()))?;
    let listed = all.into_iter().filter(|(hash, _)| params.after.is_none_or(|after| *hash > after));
    let limit = params.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
    Ok(Json(listed.take(limit).map(|(hash, bytes)| BlobEntry { hash, bytes }).collect()))
}

/// A blob's bytes, from `Range: bytes=N-` on where that is given. Whoever fetches checks them against the hash.
#[utoipa::path(get, path = "/v1/blobs/{hash}", tag = "blobs", params(("hash" = String, Path)), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 206, description = "The rest, where `Range: bytes=N-` was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn fetch(State(app): State<App>, Id(hash): Id<Hash>, headers: HeaderMap) -> Result<Response, Refusal> {
    let unknown = || Refusal::UnknownBlob(hash.to_string());
    let mut file = tokio::fs::File::open(app.net.blobs().path(&hash)).await.map_err(|_| unknown())?;
    let bytes = file.metadata().await.map_err(|_| unknown())?.len();
    let stream = |file| Body::from_stream(ReaderStream::with_capacity(file, 64 * 1024));
    match rest_from(&headers).filter(|from| (1..=bytes).contains(from)) {
        None => Ok((blob_headers(bytes), stream(file)).into_response()),
        Some(from) => {
            file.seek(SeekFrom::Start(from)).await.map_err(|e| Refusal::Internal(e.to_string()))?;
            let range = [(header::CONTENT_RANGE, format!("bytes {from}-{}/{bytes}", bytes.saturating_sub(1)))];
            Ok((StatusCode::PARTIAL_CONTENT, blob_headers(bytes - from), range, stream(file)).into_response())
        }
    }
}

/// The `N` of `Range: bytes=N-`. Other ranges are answered with the whole, which HTTP allows.
fn rest_from(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Is a blob here?
#[utoipa::path(head, path = "/v1/blobs/{hash}", tag = "blobs", params(("hash" = String, Path)), responses(
    (status = 200, description = "It is; content-length says how long it is"),
    (status = 404, description = "It isn't"),
))]
pub(crate) async fn has(State(app): State<App>, Id(hash): Id<Hash>) -> Result<Response, Refusal> {
    let bytes = app.net.blobs().bytes(&hash).ok_or_else(|| Refusal::UnknownBlob(hash.to_string()))?;
    Ok(blob_headers(bytes).into_response())
}

fn blob_headers(bytes: u64) -> [(header::HeaderName, String); 3] {
    [
        (header::CONTENT_TYPE, "application/octet-stream".into()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        // A blob never changes under its name.
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".into()),
    ]
}

/// Stores a blob. Signed by a key that the chain knows, see `upload_content` in the client's source.
#[utoipa::path(put, path = "/v1/blobs/{hash}", tag = "blobs",
    params(
        ("hash" = String, Path),
        ("x-deepmarket-key" = String, Header, description = "The uploader's public key in hex"),
        ("x-deepmarket-signature" = String, Header, description = "Signature over `upload ‖ hash ‖ length` in hex"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is stored"),
        (status = 200, description = "It was here already"),
        (status = "default", body = ErrorBody),
    ),
)]
pub(crate) async fn store(State(app): State<App>, Id(hash): Id<Hash>, request: Request) -> Result<StatusCode, Refusal> {
    let (parts, body) = request.into_parts();
    match allowed(&app, &hash, &parts.headers).await {
        Ok(bytes) => receive(&app, hash, bytes, body).await,
        Err(refusal) => {
            extract::drain(body).await;
            Err(refusal)
        }
    }
}

/// Checks who uploads, before a byte is read. Order: length, headers, key, signature.
async fn allowed(app: &App, hash: &Hash, headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Refusal::MissingHeader(name));
    let bytes = text("content-length")?;
    let bytes: u64 = bytes.parse().map_err(|_| Refusal::BadRequest("content-length is not a number".into()))?;
    if bytes > MAX_BLOB_BYTES {
        return Err(Refusal::TooLarge { limit: MAX_BLOB_BYTES });
    }
    let key: PublicKey = text(KEY_HEADER)?.parse()?;
    let signature: Signature = text(SIGNATURE_HEADER)?.parse()?;
    if !views::knows_key(&app.chain.ledger(), &key) {
        return Err(Refusal::UnknownKey(key.to_string()));
    }
    key.verify(Domain::Request, &app.chain_id, &upload_content(hash, bytes), &signature)?;
    Ok(bytes)
}

async fn receive(app: &App, hash: Hash, bytes: u64, body: Body) -> Result<StatusCode, Refusal> {
    if app.net.blobs().has(&hash) {
        extract::drain(body).await;
        return Ok(StatusCode::OK);
    }
    let _turn = app.quota.upload(bytes).await?;
    let content = extract::read(body, bytes).await?;
    let app = app.clone();
    super::blocking(move || {
        let got = Hash::of(&content);
        if got != hash {
            return Err(Refusal::WrongBlob { expected: hash.to_string(), got: got.to_string() });
        }
        app.net.blobs().put_verified(&hash, &content).map_err(|e| Refusal::Internal(e.to_string()))?;
        app.quota.stored(bytes);
        Ok(StatusCode::CREATED)
    })
    .await?
}
