use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use deepmarket_api::{ApiError, Client};
use deepmarket_dataset::{Generator, Import, ImportError, Input, Options, S3Access, Sink, fetch, is_url, local_path};
use deepmarket_job::{Features, Targets};
use deepmarket_types::{ChainId, Hash, SecretKey};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    args::Add,
    error::{Failure, Outcome},
    output::{self, Output},
    settings::{Dataset, Settings},
};

/// Gateways that hold each blob, so that one of them may be lost.
const COPIES: usize = 2;
/// Shards that are stored at the same time.
const AT_ONCE: usize = 4;
/// How often a shard is tried, and the pause between, which grows.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// What `data add` tells.
#[derive(Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    dataset: &'a Dataset,
    format: String,
    classes: &'a [String],
    features: &'a [String],
}

pub async fn run(settings: &Settings, arguments: Add) -> Outcome {
    let options = Options {
        name: arguments.name.clone(),
        format: arguments.format,
        shard_samples: arguments.shard_samples,
        holdout: arguments.split,
        seed: arguments.seed,
        target: arguments.target,
        task: arguments.task,
        raw: arguments.no_standardise,
        drop: arguments.drop,
        one_hot: arguments.one_hot,
        no_header: arguments.no_header,
        resize: arguments.resize,
        colour: arguments.colour,
        length: arguments.length,
        arrays: (arguments.x, arguments.y),
    };
    let store = Store::connect(settings).await?;
    let output = settings.output;
    let mut places = Places::default();
    let input = match (&arguments.source, &arguments.train, &arguments.test) {
        (Some(source), None, None) => Input::One(places.local(source, output).await?),
        (None, Some(train), Some(test)) => {
            Input::Two { train: places.local(train, output).await?, test: places.local(test, output).await? }
        }
        _ => return Err(Failure::user("name one source, or --train and --test")),
    };
    let standardised = !options.raw;
    let staged = stage(output, move |sink| deepmarket_dataset::import(&input, &options, sink))
        .await?
        .map_err(|e| Failure::user(places.told(&e.to_string())).code(e.code()))?;
    let dataset = store.put(&staged, output).await?;
    show(settings, &arguments.name, &staged.import, &dataset, standardised)
}

pub async fn generate(settings: &Settings, kind: Generator, name: &str, samples: u64, seed: u64, length: u32) -> Outcome {
    let store = Store::connect(settings).await?;
    let options = Options { seed, length, ..Options::new(name) };
    let staged = stage(settings.output, move |sink| deepmarket_dataset::generate(kind, samples, &options, sink))
        .await?
        .map_err(|e| Failure::user(&e).code(e.code()))?;
    let dataset = store.put(&staged, settings.output).await?;
    show(settings, name, &staged.import, &dataset, false)
}

/// Imports a folder of IDX files and stores manifest and shards in the market.
pub async fn add(
    client: &Client,
    chain: &ChainId,
    owner: &SecretKey,
    folder: &Path,
    name: &str,
    output: Output,
) -> Outcome<Dataset> {
    let (input, options) = (Input::One(folder.to_owned()), Options::new(name));
    let staged = stage(output, move |sink| deepmarket_dataset::import(&input, &options, sink))
        .await?
        .map_err(|e| Failure::user(format!("{}: {e}", folder.display())).code(e.code()))?;
    Store { client: client.clone(), chain: *chain, owner: owner.clone() }.put(&staged, output).await
}

fn show(settings: &Settings, name: &str, import: &Import, dataset: &Dataset, standardised: bool) -> Outcome {
    settings.datasets().add(name, dataset.clone())?;
    let told = Added { dataset, format: import.format.to_string(), classes: &import.classes, features: &import.features };
    settings.output.show(&told, || {
        let manifest = &import.manifest;
        let splits: Vec<String> = dataset.splits.iter().map(|(name, samples)| format!("{samples} in '{name}'")).collect();
        let shards: usize = manifest.splits.iter().map(|split| split.shards.len()).sum();
        let mut text = format!(
            "dataset '{name}': {}, {} in {shards} shards\ninput = {:?}, {}",
            splits.join(", "),
            output::bytes(dataset.bytes),
            manifest.shape,
            match &manifest.y {
                Targets::Class { classes } => format!("{classes} classes"),
                Targets::Values { shape } => format!("values of shape {shape:?}"),
                Targets::Tokens { vocabulary } => format!("{vocabulary} tokens"),
            }
        );
        if !import.classes.is_empty() {
            text += &format!("\nclasses {}", numbered(&import.classes));
        }
        if !import.features.is_empty() {
            text += &format!("\nfeatures {}", numbered(&import.features));
            if standardised && manifest.x == Features::F32 {
                text += "\nfeatures were standardised: less the training split's mean, over its deviation";
            }
        }
        text + &format!("\nmanifest {}", dataset.manifest)
    })?;
    settings.output.next(format!("deepmarket job quote FILE, where the job file says manifest = \"{name}\""));
    Ok(())
}

/// `0 cat, 1 dog`, not too many.
fn numbered(names: &[String]) -> String {
    const MANY: usize = 20;
    let shown: Vec<String> = names.iter().take(MANY).enumerate().map(|(number, name)| format!("{number} {name}")).collect();
    let more = if names.len() > MANY { format!(" and {} more", names.len() - MANY) } else { String::new() };
    shown.join(", ") + &more
}

/// Sources and where they are on this machine, as long as this lives.
#[derive(Default)]
struct Places(Vec<(String, TempDir)>);

impl Places {
    /// The path of a source, which is fetched first where it is elsewhere.
    async fn local(&mut self, source: &str, output: Output) -> Outcome<PathBuf> {
        if !is_url(source) {
            return Ok(local_path(source));
        }
        let folder = tempfile::tempdir().map_err(|e| Failure::environment(format!("no temporary folder: {e}")))?;
        let bar = output.bytes_bar("fetching", 0);
        let told = |progress: deepmarket_dataset::Progress<'_>| {
            bar.set_length(progress.total_bytes.unwrap_or(progress.done_bytes));
            bar.set_position(progress.done_bytes);
        };
        let path = fetch(source, &S3Access::from_environment(), folder.path(), &told).await;
        bar.finish_and_clear();
        let path = path.map_err(|e| Failure::environment(&e).code(e.code()))?;
        // Credentials that an address may carry aren't shown again.
        let shown = match source.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
            Some((scheme, rest)) => format!("{scheme}://{rest}"),
            None => source.to_owned(),
        };
        self.0.push((shown, folder));
        Ok(path)
    }

    /// Words about files, with the sources' names in place of their copies'.
    fn told(&self, words: &str) -> String {
        self.0.iter().fold(words.to_owned(), |words, (source, folder)| {
            words.replace(&folder.path().display().to_string(), source.trim_end_matches('/'))
        })
    }
}

/// Shards on this machine's disk, each in a file named by its hash.
struct Staged {
    folder: TempDir,
    import: Import,
}

/// Runs an import in the background; its shards go to a temporary folder.
async fn stage(
    output: Output,
    work: impl FnOnce(Sink<'_>) -> Result<Import, ImportError> + Send + 'static,
) -> Outcome<Result<Staged, ImportError>> {
    let folder = tempfile::tempdir().map_err(|e| Failure::environment(format!("no temporary folder: {e}")))?;
    let path = folder.path().to_owned();
    let bar = output.bytes_bar("cutting shards", 0);
    let told = bar.clone();
    let import = spawn_blocking(move || {
        work(&mut |hash: Hash, bytes: Vec<u8>| -> io::Result<()> {
            told.inc_length(bytes.len() as u64);
            told.inc(bytes.len() as u64);
            fs::write(path.join(hash.to_hex()), bytes)
        })
    })
    .await
    .map_err(Failure::bug)?;
    bar.finish_and_clear();
    Ok(import.map(|import| Staged { folder, import }))
}

/// Where shards are stored, and by whom.
struct Store {
    client: Client,
    chain: ChainId,
    owner: SecretKey,
}

impl Store {
    async fn connect(settings: &Settings) -> Outcome<Store> {
        let client = settings.client()?;
        let chain = client.status().await?.chain;
        // All gateways that the market has, so that copies go to different ones.
        let client = client.discover().await.unwrap_or(client);
        Ok(Store { client, chain, owner: settings.signer()? })
    }

    /// Stores the shards that gateways don't have yet, and the manifest last: who knows it finds all of it.
    async fn put(&self, staged: &Staged, output: Output) -> Outcome<Dataset> {
        let manifest = &staged.import.manifest;
        let bytes = manifest.to_bytes();
        let shards: BTreeMap<Hash, u64> =
            manifest.splits.iter().flat_map(|split| &split.shards).map(|shard| (shard.hash, shard.bytes)).collect();
        let total = shards.values().sum::<u64>() + bytes.len() as u64;
        let bar = output.bytes_bar("storing shards", total);
        let puts = stream::iter(shards).map(|(hash, length)| {
            let (bar, path) = (&bar, staged.folder.path().join(hash.to_hex()));
            async move {
                let content = tokio::fs::read(&path).await.map_err(crate::error::io(path.display()))?;
                self.put_one(&hash, content).await?;
                bar.inc(length);
                Ok::<(), Failure>(())
            }
        });
        let outcome: Outcome = puts.buffer_unordered(AT_ONCE).try_collect().await;
        if let Err(failure) = outcome {
            bar.abandon();
            return Err(failure.hint("run the same command again: what is stored already is skipped"));
        }
        let manifest_hash = self.put_one(&manifest.hash(), bytes).await?;
        bar.finish_and_clear();
        let splits = manifest.splits.iter().map(|split| (split.name.clone(), split.samples)).collect();
        Ok(Dataset { manifest: manifest_hash, splits, bytes: total })
    }

    /// Stores one blob; a market that doesn't answer just now is asked again.
    async fn put_one(&self, hash: &Hash, content: Vec<u8>) -> Outcome<Hash> {
        let content = bytes::Bytes::from(content);
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
