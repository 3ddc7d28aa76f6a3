use std::str::FromStr;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use deepmarket_api::{BlockView, ErrorBody, chain_bytes};
use deepmarket_types::Height;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params},
};

/// The most blocks of one listing: each holds up to 2 MiB on disk.
const MAX_BLOCKS: u64 = 50;

/// A height, or the newest block's.
pub(crate) enum Which {
    Latest,
    At(Height),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Which::Latest),
            _ => text.parse().map(|height| Which::At(Height(height))).map_err(|_| format!("'{text}' is not a height")),
        }
    }
}

/// A block, by its height or `latest`.
#[utoipa::path(get, path = "/v1/blocks/{height}", tag = "chain", params(("height" = String, Path)), responses(
    (status = 200, body = BlockView), (status = "default", body = ErrorBody),
))]
pub(crate) async fn block(State(app): State<App>, Id(which): Id<Which>) -> Result<Json<BlockView>, Refusal> {
    let height = match which {
        Which::Latest => app.chain.ledger().height(),
        Which::At(height) => height,
    };
    app.chain.block(height)?.map(Json).ok_or_else(|| Refusal::UnknownBlock(height.to_string()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BlocksParams {
    /// Only blocks below this height.
    before: Option<u64>,
    /// At most so many, 20 unless told, 50 at most.
    limit: Option<u64>,
}

/// Blocks, newest first.
#[utoipa::path(get, path = "/v1/blocks", tag = "chain", params(BlocksParams), responses(
    (status = 200, body = Vec<BlockView>), (status = "default", body = ErrorBody),
))]
pub(crate) async fn blocks(
    State(app): State<App>,
    Params(params): Params<BlocksParams>,
) -> Result<Json<Vec<BlockView>>, Refusal> {
    let newest = app.chain.ledger().height().0;
    let end = params.before.map_or(newest, |before| newest.min(before.saturating_sub(1)));
    let count = params.limit.unwrap_or(20).min(MAX_BLOCKS);
    let read = move || {
        let heights = (1..=end).rev().take(count as usize);
        heights.filter_map(|height| app.chain.block(Height(height)).transpose()).collect::<Result<Vec<_>, _>>()
    };
    super::blocking(read).await?.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RawParams {
    /// The first block.
    from: u64,
}

/// Canonical bytes of blocks and of their commit certificates from a height on, as many as fit into 4 MiB: borsh of a list of
/// pairs. With the genesis document they are all that checking a chain needs. Empty from above the tip on.
#[utoipa::path(get, path = "/v1/blocks/raw", tag = "chain", params(RawParams), responses(
    (status = 200, description = "The blocks", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn raw(State(app): State<App>, Params(params): Params<RawParams>) -> Result<impl IntoResponse, Refusal> {
    let read = move || app.chain.raw_blocks(Height(params.from));
    let blocks = super::blocking(read).await??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], chain_bytes(blocks)))
}
