//! Blobs at gateways: what is there is not sent again, and what broke off goes on where it was.

use std::{io, path::Path, time::Duration};

use bytes::Bytes;
use deepmarket_types::{ChainId, Domain, Hash, SecretKey};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt as _,
};
use utoipa::ToSchema;

use super::{
    ApiError, Client,
    transport::{Ask, Failures, is_unknown},
};
use crate::{KEY_HEADER, MAX_BLOB_BYTES, SIGNATURE_HEADER, upload_content};

/// A blob that a gateway holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobEntry {
    /// Its hash.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// Its length.
    pub bytes: u64,
}

/// How long an upload of one blob may take.
const UPLOAD: Duration = Duration::from_secs(300);
/// How often all gateways are tried for a download.
const ROUNDS: u32 = 2;

/// Why a blob didn't come into a file.
#[derive(Debug)]
pub enum DownloadError {
    /// The market's side.
    Market(ApiError),
    /// The file.
    Disk {
        /// Its path.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
}

impl From<ApiError> for DownloadError {
    fn from(error: ApiError) -> DownloadError {
        DownloadError::Market(error)
    }
}

impl std::fmt::Display for DownloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DownloadError::Market(error) => error.fmt(f),
            DownloadError::Disk { path, source } => write!(f, "{path}: {source}"),
        }
    }
}

impl std::error::Error for DownloadError {}

/// The length of a file whose content has this hash.
async fn right_file(path: &Path, hash: Hash) -> Option<u64> {
    // A blob has at most 256 MiB.
    let bytes = tokio::fs::read(path).await.ok()?;
    (Hash::of(&bytes) == hash).then_some(bytes.len() as u64)
}

impl Client {
    /// Stores a blob at up to `copies` gateways, signed by a key that the chain knows. A gateway that has it already isn't sent
    /// it again. Fails only where none has it in the end.
    pub async fn put_blob(
        &self,
        key: &SecretKey,
        chain: &ChainId,
        bytes: impl Into<Bytes>,
        copies: usize,
    ) -> Result<Hash, ApiError> {
        let bytes: Bytes = bytes.into();
        let hash = Hash::of(&bytes);
        let signature = key.sign(Domain::Request, chain, &upload_content(&hash, bytes.len() as u64));
        let path = format!("/v1/blobs/{}", hash.to_hex());
        let question = Ask::new(Method::HEAD, path.clone());
        let ask = Ask::new(Method::PUT, path)
            .header(KEY_HEADER, key.public())
            .header(SIGNATURE_HEADER, signature)
            .body("application/octet-stream", bytes)
            .timeout(Some(UPLOAD));
        let (mut stored, mut failures) = (0, Failures::default());
        for gateway in self.transport.order() {
            if stored >= copies.max(1) {
                break;
            }
            if self.transport.once(gateway, &question).await.is_ok() {
                stored += 1;
                continue;
            }
            match self.transport.once(gateway, &ask).await {
                Ok(_) => stored += 1,
                Err(error) => failures.push(error),
            }
        }
        if stored > 0 { Ok(hash) } else { Err(failures.into_error()) }
    }

    /// Fetches a blob from the first gateway that has it, and checks it against its hash. Where one breaks off, the next goes
    /// on from there. `progress` hears the bytes that are here.
    pub async fn get_blob(&self, hash: Hash, progress: &(dyn Fn(u64) + Sync)) -> Result<Bytes, ApiError> {
        let (mut missing, mut failures) = (0, Failures::default());
        let mut blob = Vec::new();
        for _ in 0..ROUNDS {
            missing = 0;
            for gateway in self.transport.order() {
                match self.continue_blob(gateway, hash, &mut blob, progress).await {
                    Ok(()) if Hash::of(&blob) == hash => return Ok(blob.into()),
                    Ok(()) => {
                        blob.clear();
                        failures.push(self.transport.bad_answer(gateway, format!("its blob {hash} has other content")));
                    }
                    Err(ApiError::Status(body)) if is_unknown(&body) => missing += 1,
                    Err(error) => failures.push(error),
                }
            }
            // Nothing came: asking again changes nothing. A part came: it is worth another round.
            if blob.is_empty() {
                break;
            }
        }
        if missing > 0 { Err(ApiError::NoSuchBlob(hash)) } else { Err(failures.into_error()) }
    }

    /// Reads what is missing of a blob from one gateway. On failure `blob` holds what came.
    async fn continue_blob(
        &self,
        gateway: usize,
        hash: Hash,
        blob: &mut Vec<u8>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ApiError> {
        let mut ask = Ask::get(format!("/v1/blobs/{}", hash.to_hex())).timeout(None);
        if !blob.is_empty() {
            ask = ask.header("range", format!("bytes={}-", blob.len()));
        }
        let mut response = self.transport.once(gateway, &ask).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            blob.clear();
        }
        let too_long = || self.transport.bad_answer(gateway, format!("more than {MAX_BLOB_BYTES} bytes"));
        let announced = response.content_length().unwrap_or(0);
        if announced.saturating_add(blob.len() as u64) > MAX_BLOB_BYTES {
            return Err(too_long());
        }
        // What is announced is not trusted with memory: at most 1 MiB is taken ahead of the data.
        blob.reserve(announced.min(1 << 20) as usize);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if (blob.len() + chunk.len()) as u64 > MAX_BLOB_BYTES {
                        blob.clear();
                        return Err(too_long());
                    }
                    blob.extend_from_slice(&chunk);
                    progress(blob.len() as u64);
                }
                Ok(None) => return Ok(()),
                Err(e) => return Err(self.transport.unreachable(gateway, e.to_string())),
            }
        }
    }

    /// Fetches a blob into a file, checks it against its hash, and returns its length. What comes is kept beside it in a file that
    /// ends in `.part`, so that the next call goes on where this one broke off, even in another process. A file that is there and
    /// right is kept.
    pub async fn download_blob(&self, hash: Hash, path: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<u64, DownloadError> {
        if let Some(bytes) = right_file(path, hash).await {
            progress(bytes);
            return Ok(bytes);
        }
        let part = path.with_added_extension("part");
        let disk = |path: &Path| {
            let path = path.display().to_string();
            move |source| DownloadError::Disk { path, source }
        };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&part).await.map_err(disk(&part))?;
        let (mut missing, mut failures) = (0, Failures::default());
        for gateway in (0..ROUNDS).flat_map(|_| self.transport.order()) {
            match self.continue_file(gateway, hash, &mut file, progress).await {
                Ok(()) => {
                    file.sync_all().await.map_err(disk(&part))?;
                    if let Some(bytes) = right_file(&part, hash).await {
                        tokio::fs::rename(&part, path).await.map_err(disk(path))?;
                        return Ok(bytes);
                    }
                    // Whoever gave the wrong byte: all of it is in doubt.
                    file.set_len(0).await.map_err(disk(&part))?;
                    failures.push(self.transport.bad_answer(gateway, format!("its blob {hash} has other content")));
                }
                Err(DownloadError::Market(ApiError::Status(body))) if is_unknown(&body) => missing += 1,
                Err(DownloadError::Market(error)) => failures.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(DownloadError::Market(if missing > 0 { ApiError::NoSuchBlob(hash) } else { failures.into_error() }))
    }

    /// Appends what is missing of a blob from one gateway.
    async fn continue_file(
        &self,
        gateway: usize,
        hash: Hash,
        file: &mut File,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DownloadError> {
        let disk = |source| DownloadError::Disk { path: format!("the part of blob {hash}"), source };
        let mut here = file.metadata().await.map_err(disk)?.len();
        let mut ask = Ask::get(format!("/v1/blobs/{}", hash.to_hex())).timeout(None);
        if here > 0 {
            ask = ask.header("range", format!("bytes={here}-"));
        }
        let mut response = self.transport.once(gateway, &ask).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            file.set_len(0).await.map_err(disk)?;
            here = 0;
        }
        loop {
            let chunk = response.chunk().await.map_err(|e| self.transport.unreachable(gateway, e.to_string()))?;
            let Some(chunk) = chunk else { break };
            here += chunk.len() as u64;
            if here > MAX_BLOB_BYTES {
                file.set_len(0).await.map_err(disk)?;
                return Err(self.transport.bad_answer(gateway, format!("more than {MAX_BLOB_BYTES} bytes")).into());
            }
            file.write_all(&chunk).await.map_err(disk)?;
            progress(here);
        }
        file.flush().await.map_err(disk)
    }

    /// The blobs that a gateway holds after one of them (or: from the first on) by hash, at most 10,000.
    pub async fn blobs(&self, after: Option<Hash>, limit: usize) -> Result<Vec<BlobEntry>, ApiError> {
        let after = after.map(|hash| hash.to_hex());
        self.transport.json(&Ask::get("/v1/blobs").maybe("after", after).query("limit", limit)).await
    }

    /// Does any gateway have this blob?
    pub async fn has_blob(&self, hash: Hash) -> Result<bool, ApiError> {
        let ask = Ask::new(Method::HEAD, format!("/v1/blobs/{}", hash.to_hex()));
        let next = |error: &ApiError| error.retryable() || matches!(error, ApiError::Status(b) if is_unknown(b));
        match self.transport.ask_unless(&ask, next).await {
            Ok(_) => Ok(true),
            Err(ApiError::Status(body)) if is_unknown(&body) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
