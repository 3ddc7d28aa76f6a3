//! Datasets: bringing files into a market, and the names that they have on this computer.
//!
//! ```text
//! files ─▶ cut into shards, in a temporary folder ─▶ stored by gateways, the manifest last ─▶ a name
//! ```

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use deepmarket_api::{ApiError, Client};
use deepmarket_dataset::{Import, ImportError, Sink};
pub use deepmarket_dataset::{Input, Options};
use deepmarket_types::{ChainId, Hash, SecretKey};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};

use crate::{
    failure::{Failure, Outcome, io as about},
    files::write_whole,
};

/// Gateways that hold each blob, so that one of them may be lost.
const COPIES: usize = 2;
/// Shards that are stored at the same time.
const AT_ONCE: usize = 4;
/// How often a shard is tried, and the pause between, which grows.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// One added dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// The manifest's blob.
    pub manifest: Hash,
    /// Samples of each split.
    pub splits: BTreeMap<String, u64>,
    /// Bytes of manifest and shards.
    pub bytes: u64,
}

/// The names of the datasets that were added on this computer: `datasets.json` in a folder.
pub struct Datasets {
    path: PathBuf,
}

impl Datasets {
    /// Those of a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Datasets { path: folder.join("datasets.json") }
    }

    /// All, by name.
    pub fn read(&self) -> Outcome<BTreeMap<String, Dataset>> {
        if !self.path.exists() {
            return Ok(BTreeMap::new());
        }
        let text = fs::read_to_string(&self.path).map_err(about(self.path.display()))?;
        serde_json::from_str(&text).map_err(|e| Failure::environment(format!("{}: {e}", self.path.display())))
    }

    /// Names one; a name that was used means the new one from now on.
    pub fn add(&self, name: &str, dataset: Dataset) -> Outcome {
        let mut all = self.read()?;
        all.insert(name.to_owned(), dataset);
        let text = serde_json::to_string_pretty(&all).map_err(Failure::bug)?;
        write_whole(&self.path, text.as_bytes())
    }
}

/// What an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Files are read and cut; how many bytes it will be isn't known yet.
    Cutting,
    /// Shards go to gateways.
    Storing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Cutting => "cutting shards",
            Step::Storing => "storing shards",
        })
    }
}

/// Told the step, the bytes that are done, and those of the whole step (0 where they aren't known yet).
pub type Tell<'a> = &'a (dyn Fn(Step, u64, u64) + Send + Sync);

/// A dataset that the market has.
pub struct Imported {
    /// Where it is.
    pub dataset: Dataset,
    /// What was found in the files.
    pub import: Import,
}

/// Reads files, cuts them into shards and stores these in the market, for one of its accounts. Copies go to different gateways
/// where the client knows several ([`Client::discover`]). The dataset isn't named yet: see [`Datasets::add`].
pub async fn import(
    client: &Client,
    chain: &ChainId,
    owner: &SecretKey,
    input: Input,
    options: Options,
    tell: Tell<'_>,
) -> Outcome<Imported> {
    let staged = stage(move |sink| deepmarket_dataset::import(&input, &options, sink), tell)
        .await?
        .map_err(|e| Failure::user(&e).with_code(e.code()))?;
    Store::new(client, chain, owner).put(staged, tell).await
}

/// Shards on this computer's disk, each in a file named by its hash.
pub struct Staged {
    folder: TempDir,
    import: Import,
}

/// Runs an import in the background; its shards go to a temporary folder.
pub async fn stage(
    work: impl FnOnce(Sink<'_>) -> Result<Import, ImportError> + Send + 'static,
    tell: Tell<'_>,
) -> Outcome<Result<Staged, ImportError>> {
    let folder = tempfile::tempdir().map_err(about("no temporary folder"))?;
    let path = folder.path().to_owned();
    let (written, mut news) = mpsc::unbounded_channel();
    let importing = spawn_blocking(move || {
        work(&mut |hash: Hash, bytes: Vec<u8>| -> io::Result<()> {
            let length = bytes.len() as u64;
            fs::write(path.join(hash.to_hex()), bytes)?;
            // Nobody listens where the import was given up.
            let _ = written.send(length);
            Ok(())
        })
    });
    let mut done = 0;
    tell(Step::Cutting, done, 0);
    while let Some(length) = news.recv().await {
        done += length;
        tell(Step::Cutting, done, 0);
    }
    let import = importing.await.map_err(Failure::bug)?;
    Ok(import.map(|import| Staged { folder, import }))
}

/// Where shards are stored, and by whom.
pub struct Store {
    client: Client,
    chain: ChainId,
    owner: SecretKey,
}

impl Store {
    /// In a market, for one of its accounts.
    pub fn new(client: &Client, chain: &ChainId, owner: &SecretKey) -> Store {
        Store { client: client.clone(), chain: *chain, owner: owner.clone() }
    }

    /// Stores the shards that gateways don't have yet, and the manifest last: who knows it finds all of it.
    pub async fn put(&self, staged: Staged, tell: Tell<'_>) -> Outcome<Imported> {
        let manifest = &staged.import.manifest;
        let bytes = manifest.to_bytes();
        let shards: BTreeMap<Hash, u64> =
            manifest.splits.iter().flat_map(|split| &split.shards).map(|shard| (shard.hash, shard.bytes)).collect();
        let total = shards.values().sum::<u64>() + bytes.len() as u64;
        tell(Step::Storing, 0, total);
        let puts = stream::iter(shards).map(|(hash, length)| {
            let path = staged.folder.path().join(hash.to_hex());
            async move {
                let content = tokio::fs::read(&path).await.map_err(about(path.display()))?;
                self.put_one(&hash, content.into()).await?;
                Ok::<u64, Failure>(length)
            }
        });
        let stored = puts.buffer_unordered(AT_ONCE).try_fold(0, |done, length| {
            tell(Step::Storing, done + length, total);
            future::ok(done + length)
        });
        stored.await.map_err(|failure: Failure| failure.with_hint("try it again: what is stored already is skipped"))?;
        let manifest_hash = self.put_one(&manifest.hash(), bytes.into()).await?;
        tell(Step::Storing, total, total);
        let splits = manifest.splits.iter().map(|split| (split.name.clone(), split.samples)).collect();
        Ok(Imported { dataset: Dataset { manifest: manifest_hash, splits, bytes: total }, import: staged.import })
    }

    /// Stores one blob; a market that doesn't answer just now is asked again.
    async fn put_one(&self, hash: &Hash, content: Bytes) -> Outcome<Hash> {
        let mut attempt = 1;
        loop {
            let error: ApiError = match self.client.put_blob(&self.owner, &self.chain, content.clone(), COPIES).await {
                Ok(stored) if stored == *hash => return Ok(stored),
                Ok(stored) => return Err(Failure::bug(format!("blob {hash} was stored as {stored}"))),
                Err(error) => error,
            };
            if !error.retryable() || attempt == TRIES {
                return Err(error.into());
            }
            sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_means_what_was_added_last() {
        let folder = tempfile::tempdir().unwrap();
        let datasets = Datasets::in_folder(folder.path());
        assert!(datasets.read().unwrap().is_empty());
        let dataset = |bytes| Dataset { manifest: Hash::of(b"m"), splits: BTreeMap::from([("train".to_owned(), 9)]), bytes };
        datasets.add("digits", dataset(1)).unwrap();
        datasets.add("iris", dataset(2)).unwrap();
        datasets.add("digits", dataset(3)).unwrap();
        let bytes: Vec<(String, u64)> = datasets.read().unwrap().into_iter().map(|(name, d)| (name, d.bytes)).collect();
        assert_eq!(bytes, [("digits".to_owned(), 3), ("iris".to_owned(), 2)]);
    }

    #[test]
    fn an_import_may_go_on_in_any_thread() {
        fn any_thread<T: Send>(_: T) {}
        let client = Client::new(vec!["http://127.0.0.1:1".into()]).unwrap();
        let (chain, owner) = (Hash::of(b"chain"), SecretKey::generate());
        any_thread(import(&client, &chain, &owner, Input::One("files".into()), Options::new("digits"), &|_, _, _| {}));
    }
}
