use std::{collections::BTreeMap, path::Path};

use deepmarket_api::Client;
use deepmarket_dataset::DEFAULT_SHARD_SAMPLES;
use deepmarket_types::{ChainId, SecretKey};

use crate::{
    args::Data,
    error::{Failure, Outcome},
    output,
    settings::{Dataset, Settings},
};

/// Gateways that hold each blob, so that one of them may be lost.
const COPIES: usize = 2;

pub async fn run(settings: &Settings, verb: Data) -> Outcome {
    match verb {
        Data::Add { folder, name } => {
            let client = settings.client()?;
            let chain = client.status().await?.chain;
            let dataset = add(&client, &chain, &settings.signer()?, &folder, &name, settings.output).await?;
            settings.datasets().add(&name, dataset.clone())?;
            settings.output.show(&dataset, || {
                let splits: Vec<String> = dataset.splits.iter().map(|(name, samples)| format!("{samples} in '{name}'")).collect();
                let size = output::bytes(dataset.bytes);
                format!("dataset '{name}': {}, {size}\nmanifest {}", splits.join(", "), dataset.manifest)
            })?;
            settings.output.next("deepmarket job quote examples/mnist.toml");
            Ok(())
        }
        Data::Ls => {
            let all = settings.datasets().read()?;
            settings.output.show(&all, || {
                let rows = all.iter().map(|(name, d)| {
                    let splits: Vec<String> = d.splits.iter().map(|(name, samples)| format!("{name} {samples}")).collect();
                    vec![name.clone(), splits.join(", "), output::bytes(d.bytes), d.manifest.to_string()]
                });
                output::table(&["name", "samples", "size", "manifest"], &[2], rows)
            })
        }
    }
}

/// Imports a folder and stores manifest and shards in the market.
pub async fn add(
    client: &Client,
    chain: &ChainId,
    owner: &SecretKey,
    folder: &Path,
    name: &str,
    output: output::Output,
) -> Outcome<Dataset> {
    let imported = deepmarket_dataset::import_idx(folder, name, DEFAULT_SHARD_SAMPLES)
        .map_err(|e| Failure::user(format!("{}: {e}", folder.display())).code(e.code()))?;
    let manifest = imported.manifest.to_bytes();
    let total: u64 = imported.shards.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + manifest.len() as u64;
    let bar = output.bytes_bar("storing shards", total);
    for (hash, bytes) in imported.shards {
        let length = bytes.len() as u64;
        let stored = client.put_blob(owner, chain, bytes, COPIES).await?;
        if stored != hash {
            return Err(Failure::bug(format!("shard {hash} was stored as {stored}")));
        }
        bar.inc(length);
    }
    let splits: BTreeMap<String, u64> = imported.manifest.splits.iter().map(|s| (s.name.clone(), s.samples)).collect();
    let manifest = client.put_blob(owner, chain, manifest, COPIES).await?;
    bar.finish_and_clear();
    Ok(Dataset { manifest, splits, bytes: total })
}
