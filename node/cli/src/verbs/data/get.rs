use std::{fs, path::Path};

use deepmarket_api::{Client, client::DownloadError};
use deepmarket_job::DatasetManifest;
use deepmarket_types::Hash;
use deepmarket_wallet::files::write_whole;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::{
    error::{Failure, Outcome, io},
    output,
    settings::Settings,
};

/// Shards that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Fetches manifest and shards into a folder. Shards that are there and right are kept.
pub async fn run(settings: &Settings, dataset: &str, out: &Path) -> Outcome {
    let hash = match settings.datasets().read()?.get(dataset) {
        Some(known) => known.manifest,
        None => dataset.trim_start_matches("blake3:").parse().map_err(|_| {
            Failure::user(format!("no dataset is named '{dataset}' on this machine, and it is no hash"))
                .with_hint("`deepmarket data ls` lists the names")
        })?,
    };
    let client = settings.client()?;
    let client = client.discover().await.unwrap_or(client);
    let bytes = client.get_blob(hash, &|_| {}).await?;
    let manifest = DatasetManifest::from_bytes(&bytes).map_err(|e| Failure::user(&e).with_code(e.code()))?;
    fs::create_dir_all(out).map_err(io(out.display()))?;
    write_whole(&out.join("manifest.json"), &bytes)?;

    let files: Vec<(String, Hash, u64)> = manifest
        .splits
        .iter()
        .flat_map(|split| {
            let named = |(number, shard): (usize, &deepmarket_job::Shard)| {
                (format!("{}-{number:05}.safetensors", split.name.replace(['/', '\\'], "_")), shard.hash, shard.bytes)
            };
            split.shards.iter().enumerate().map(named)
        })
        .collect();
    let total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
    let bar = settings.output.bytes_bar("fetching shards", total);
    let fetches = stream::iter(&files).map(|(name, hash, length)| {
        let (client, bar, path) = (&client, &bar, out.join(name));
        async move {
            let there = fetch(client, *hash, &path).await?;
            bar.inc(*length);
            Ok::<bool, Failure>(there)
        }
    });
    let kept: Vec<bool> = fetches
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .map_err(|e| e.with_hint("run the same command again: what is here already is kept"))?;
    bar.finish_and_clear();
    let kept = kept.into_iter().filter(|kept| *kept).count();
    let report = json!({ "dataset": manifest.name, "manifest": hash, "shards": files.len(), "kept": kept, "bytes": total });
    settings.output.show(&report, || {
        format!("{}: {} shards, {} ({kept} were here already)", out.display(), files.len(), output::bytes(total))
    })
}

/// Fetches one shard, unless it is there and right; says whether a file of its name was there.
async fn fetch(client: &Client, hash: Hash, path: &Path) -> Outcome<bool> {
    let there = path.exists();
    client.download_blob(hash, path, &|_| {}).await.map_err(|e| match e {
        DownloadError::Market(error) => Failure::from(error),
        DownloadError::Disk { path, source } => Failure::environment(format!("{path}: {source}")),
    })?;
    Ok(there)
}
