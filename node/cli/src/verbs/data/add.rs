use std::path::{Path, PathBuf};

use deepmarket_api::Client;
use deepmarket_dataset::{Generator, Import, ImportError, Input, Options, S3Access, Sink, fetch, is_url, local_path};
use deepmarket_job::{Features, Targets};
use deepmarket_types::{ChainId, SecretKey};
use deepmarket_wallet::datasets::{self, Dataset, Imported, Staged, Store};
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    args::Add,
    error::{Failure, Outcome},
    output::{self, Output},
    settings::Settings,
};

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
    let store = store(settings).await?;
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
        .map_err(|e| Failure::user(places.told(&e.to_string())).with_code(e.code()))?;
    let imported = put(&store, staged, output).await?;
    show(settings, &arguments.name, &imported, standardised)
}

pub async fn generate(settings: &Settings, kind: Generator, name: &str, samples: u64, seed: u64, length: u32) -> Outcome {
    let store = store(settings).await?;
    let options = Options { seed, length, ..Options::new(name) };
    let staged = stage(settings.output, move |sink| deepmarket_dataset::generate(kind, samples, &options, sink))
        .await?
        .map_err(|e| Failure::user(&e).with_code(e.code()))?;
    let imported = put(&store, staged, settings.output).await?;
    show(settings, name, &imported, false)
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
        .map_err(|e| Failure::user(format!("{}: {e}", folder.display())).with_code(e.code()))?;
    Ok(put(&Store::new(client, chain, owner), staged, output).await?.dataset)
}

fn show(settings: &Settings, name: &str, imported: &Imported, standardised: bool) -> Outcome {
    let Imported { dataset, import } = imported;
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
        let path = path.map_err(|e| Failure::environment(&e).with_code(e.code()))?;
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

/// Where this market's shards are stored, for the account that signs.
async fn store(settings: &Settings) -> Outcome<Store> {
    let client = settings.client()?;
    let chain = client.status().await?.chain;
    // All gateways that the market has, so that copies go to different ones.
    let client = client.discover().await.unwrap_or(client);
    Ok(Store::new(&client, &chain, &settings.signer()?))
}

/// Runs an import in the background, with a bar.
async fn stage(
    output: Output,
    work: impl FnOnce(Sink<'_>) -> Result<Import, ImportError> + Send + 'static,
) -> Outcome<Result<Staged, ImportError>> {
    let bar = output.bytes_bar("cutting shards", 0);
    let tell = |_, done, _| {
        bar.set_length(done);
        bar.set_position(done);
    };
    let staged = datasets::stage(work, &tell).await;
    bar.finish_and_clear();
    staged
}

/// Stores the shards, with a bar.
async fn put(store: &Store, staged: Staged, output: Output) -> Outcome<Imported> {
    let bar = output.bytes_bar("storing shards", 0);
    let tell = |_, done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    match store.put(staged, &tell).await {
        Ok(imported) => {
            bar.finish_and_clear();
            Ok(imported)
        }
        Err(failure) => {
            bar.abandon();
            Err(failure.with_hint("run the same command again: what is stored already is skipped"))
        }
    }
}
