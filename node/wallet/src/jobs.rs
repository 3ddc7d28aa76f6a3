//! Jobs: their files, what they would cost, submitting, looking at them, and what they made.

use std::cell::Cell;

use deepmarket_api::{Client, HistoryEntry, JobView, Quote, QuoteRequest};
use deepmarket_job::{DatasetManifest, JobSpec, Kind, Name, Resolve};
use deepmarket_types::{AccountId, Action, Event, Hash, JobId, SecretKey};

use crate::{
    datasets::Datasets,
    failure::{Failure, Outcome},
};

/// Reads a job file whose names the caller resolves; checks that the data fits where its manifest is given.
pub fn parse(text: &str, resolve: Resolve, data: Option<&DatasetManifest>) -> Outcome<JobSpec> {
    let read = match data {
        Some(manifest) => JobSpec::from_toml_for(text, resolve, manifest),
        None => JobSpec::from_toml(text, resolve),
    };
    read.map_err(|e| Failure::user(&e).with_code(e.code()))
}

/// Reads a job file; names of datasets are those of this computer, and jobs are the market's. Its data must fit its model.
pub async fn read_spec(client: &Client, text: &str, datasets: &Datasets) -> Outcome<JobSpec> {
    let known = datasets.read()?;
    let dataset = |name: &str| known.get(name).map(|d| d.manifest);
    // The first reading tells which job and which data are named.
    let (spec, named) = {
        let named = Cell::new(None);
        let first = |name: Name| match name {
            Name::Dataset(name) => dataset(name),
            Name::Job(job) => {
                named.set(Some(job));
                Some(Hash::default())
            }
        };
        let spec = parse(text, &first, None)?;
        (spec, named.get())
    };
    let model = match named {
        Some(job) => Some(model_of(client, job).await?),
        None => None,
    };
    let manifest = manifest(client, &spec).await?;
    let resolve = |name: Name| match name {
        Name::Dataset(name) => dataset(name),
        Name::Job(_) => model,
    };
    parse(text, &resolve, Some(&manifest))
}

/// What a job does. One whose spec this release can't read counts as training.
pub fn kind_of(job: &JobView) -> Kind {
    JobSpec::from_toml(&job.spec, &|_| None).map_or(Kind::Train, |spec| spec.kind)
}

/// The job's dataset, from the market.
pub async fn manifest(client: &Client, spec: &JobSpec) -> Outcome<DatasetManifest> {
    manifest_of(client, spec.data.manifest).await
}

/// A dataset by its manifest's blob, from the market.
pub async fn manifest_of(client: &Client, blob: Hash) -> Outcome<DatasetManifest> {
    let bytes = client.get_blob(blob, &|_| {}).await.map_err(|e| {
        Failure::from(e).with_hint("is the dataset in this market? `deepmarket data add <folder> --name <name>` brings it")
    })?;
    DatasetManifest::from_bytes(&bytes).map_err(|e| Failure::user(format!("the dataset's manifest: {e}")).with_code(e.code()))
}

/// Asks the market what the job would cost.
pub async fn quote(client: &Client, spec: &JobSpec) -> Outcome<Quote> {
    let manifest = manifest(client, spec).await?;
    let samples = |name: &str| manifest.split(name).map(|split| split.samples).map_err(|e| Failure::user(&e).with_code(e.code()));
    let request = QuoteRequest {
        spec: hex::encode(spec.to_bytes()),
        // A dataset that is only evaluated on needs no split to train on.
        train_samples: if spec.kind == Kind::Train { samples(&spec.data.train)? } else { 0 },
        validate_samples: samples(&spec.data.validate)?,
    };
    Ok(client.quote(&request).await?)
}

/// Submits a job; gives its id.
pub async fn submit(client: &Client, owner: &SecretKey, spec: &JobSpec) -> Outcome<JobId> {
    let status = client.act(owner, Action::Borrow { spec: spec.to_bytes() }).await?;
    // The job's number is in the account's history, with the transaction that caused it.
    let id = AccountId::from_key(&owner.public());
    let entries = client.account_history(id, None, 50).await?;
    let job = entries.iter().filter(|e| e.transaction == Some(status.id)).find_map(|e| match e.event {
        Event::Job { job, .. } => Some(job),
        _ => None,
    });
    job.ok_or_else(|| Failure::bug(format!("transaction {} was accepted but caused no job", status.id)))
}

/// The job, or an error that says what to do.
pub async fn fetch(client: &Client, job: JobId) -> Outcome<JobView> {
    client
        .job(job)
        .await?
        .ok_or_else(|| Failure::user(format!("the market knows no {job}")).with_hint("deepmarket job ls --all").with_code(2020))
}

/// All events of a job, oldest first.
pub async fn history(client: &Client, job: JobId) -> Outcome<Vec<HistoryEntry>> {
    let mut all: Vec<HistoryEntry> = Vec::new();
    loop {
        let before = all.last().map(|entry| (entry.height, entry.index));
        let page = client.job_history(job, before, 500).await?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    all.reverse();
    Ok(all)
}

/// The result's blob of a job that is done.
pub fn result_of(view: &JobView) -> Outcome<Hash> {
    view.result.ok_or_else(|| no_result(view))
}

fn no_result(view: &JobView) -> Failure {
    let hint = match (view.state.is_closed(), kind_of(view)) {
        (true, Kind::Train) => "it ended before its first checkpoint: nothing of it is left".to_owned(),
        (true, _) => format!("it was stopped before it was done: `deepmarket job show {}` says why; submit it again", view.id),
        (false, _) => format!("wait for it: deepmarket job logs {} --follow", view.id),
    };
    Failure::user(format!("{} has no result: it is {}", view.id, view.status)).with_hint(hint)
}

/// The blob with a job's model, and the rounds that it has learnt from where it is only a checkpoint.
pub fn model_blob(view: &JobView) -> Outcome<(Hash, Option<u64>)> {
    match (view.result, &view.checkpoint) {
        (Some(result), _) => Ok((result, None)),
        (None, Some(checkpoint)) if view.state.is_closed() => Ok((checkpoint.state, Some(checkpoint.rounds))),
        _ => Err(no_result(view)),
    }
}

/// The model of an earlier job, for a new one that starts with it.
pub async fn model_of(client: &Client, id: JobId) -> Outcome<Hash> {
    let view = fetch(client, id).await?;
    if kind_of(&view) != Kind::Train {
        let hint = "name the job that trained it, under model.parameters";
        return Err(Failure::user(format!("{id} trained no model")).with_hint(hint));
    }
    Ok(model_blob(&view)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_file_may_be_read_in_any_thread_and_says_where_it_is_wrong() {
        fn any_thread<T: Send>(_: T) {}
        let client = Client::new(vec!["http://127.0.0.1:1".into()]).unwrap();
        let datasets = Datasets::in_folder("nowhere".as_ref());
        any_thread(read_spec(&client, "", &datasets));
        let failure = parse("[job]\nname = 1", &|_| None, None).unwrap_err();
        assert!((3001..=3012).contains(&failure.code()), "{failure}");
        assert!(failure.about("mnist.toml").to_string().starts_with("mnist.toml: line "));
    }
}
