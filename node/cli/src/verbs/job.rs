use std::{fs, path::Path};

use deepmarket_api::{Client, JobEvent, JobView, Quote, QuoteRequest};
use deepmarket_job::{DatasetManifest, JobSpec};
use deepmarket_types::{AccountId, Action, Event, Hash, JobId, SecretKey};
use futures::StreamExt as _;

use crate::{
    args::Job,
    error::{Failure, Outcome},
    output::{self, credits},
    processes::stop_signal,
    settings::{Datasets, Settings},
    verbs::{follow, result},
};

pub async fn run(settings: &Settings, verb: Job) -> Outcome {
    match verb {
        Job::Quote { file } => {
            let spec = read_spec(&file, &settings.datasets())?;
            let quote = quote(&settings.client()?, &spec).await?;
            settings.output.show(&quote, || describe_quote(&spec, &quote))?;
            settings.output.next(format!("deepmarket job submit {} --follow", file.display()));
            Ok(())
        }
        Job::Submit { file, follow } => submit_verb(settings, &file, follow).await,
        Job::Ls { all } => list(settings, all).await,
        Job::Show { job } => show(settings, job).await,
        Job::Logs { job, follow } => logs(settings, job, follow).await,
        Job::Cancel { job } => {
            let client = settings.client()?;
            client.act(&settings.signer()?, Action::Cancel { job }).await?;
            let job = fetch(&client, job).await?;
            settings.output.show(&job, || format!("{} is {}; {} were paid for work done", job.id, job.status, credits(job.paid)))
        }
        Job::Result { job, out, evaluate } => result::run(settings, job, &out, evaluate).await,
    }
}

/// Reads a job file; dataset names are those that `data add` gave.
pub fn read_spec(file: &Path, datasets: &Datasets) -> Outcome<JobSpec> {
    let known = datasets.read()?;
    parse_spec(file, &|name| known.get(name).map(|d| d.manifest))
}

/// Reads a job file whose dataset names are resolved by the caller.
pub fn parse_spec(file: &Path, resolve: &dyn Fn(&str) -> Option<Hash>) -> Outcome<JobSpec> {
    let text = fs::read_to_string(file).map_err(|e| Failure::user(format!("{}: {e}", file.display())))?;
    JobSpec::from_toml(&text, resolve).map_err(|e| Failure::user(format!("{}: {e}", file.display())).code(e.code()))
}

/// The job's dataset, from the market.
pub async fn manifest(client: &Client, spec: &JobSpec) -> Outcome<DatasetManifest> {
    let bytes = client.get_blob(spec.data.manifest, &|_| {}).await.map_err(|e| {
        Failure::from(e).hint("is the dataset in this market? `deepmarket data add <folder> --name <name>` brings it")
    })?;
    DatasetManifest::from_bytes(&bytes).map_err(|e| Failure::user(format!("the dataset's manifest: {e}")).code(e.code()))
}

/// Asks the market what the job would cost.
pub async fn quote(client: &Client, spec: &JobSpec) -> Outcome<Quote> {
    let manifest = manifest(client, spec).await?;
    let samples = |name: &str| manifest.split(name).map(|split| split.samples).map_err(|e| Failure::user(&e).code(e.code()));
    let request = QuoteRequest {
        spec: hex::encode(spec.to_bytes()),
        train_samples: samples(&spec.data.train)?,
        validate_samples: samples(&spec.data.validate)?,
    };
    Ok(client.quote(&request).await?)
}

/// Submits a job; gives its id.
pub async fn submit(client: &Client, owner: &SecretKey, spec: &JobSpec) -> Outcome<JobId> {
    let status = client.act(owner, Action::Borrow { spec: spec.to_bytes() }).await?;
    let height = status.height.ok_or_else(|| Failure::bug("a decided transaction has a height"))?;
    // The job's number is in the history of the account, at the height of the transaction.
    let id = AccountId::from_key(&owner.public());
    let entries = client.account_history(id, None, 50).await?;
    let job = entries.iter().filter(|e| e.height == height).find_map(|e| match e.event {
        Event::Job { job, .. } => Some(job),
        _ => None,
    });
    job.ok_or_else(|| Failure::bug(format!("block {height} holds the job's transaction but no job")))
}

async fn submit_verb(settings: &Settings, file: &Path, follow: bool) -> Outcome {
    let client = settings.client()?;
    let spec = read_spec(file, &settings.datasets())?;
    let quote = quote(&client, &spec).await?;
    settings.output.say(describe_quote(&spec, &quote));
    if !quote.enough {
        settings.output.say("there are not enough machines on offer now: the job waits for them");
    }
    let job = submit(&client, &settings.signer()?, &spec).await?;
    if follow {
        let stop = stop_signal(false)?;
        let ended = tokio::select! {
            ended = follow::until_closed(&client, job, settings.output) => ended?,
            () = stop.cancelled() => {
                settings.output.say(format!("{job} goes on without you"));
                settings.output.next(format!("deepmarket job logs {job} --follow"));
                return Ok(());
            }
        };
        settings.output.show(&ended, || describe(&ended))?;
        settings.output.next(format!("deepmarket job result {job} --out result --evaluate"));
        return Ok(());
    }
    settings.output.show(&serde_json::json!({ "job": job }), || format!("{job} is submitted"))?;
    settings.output.next(format!("deepmarket job logs {job} --follow"));
    Ok(())
}

/// The job, or an error that says what to do.
pub async fn fetch(client: &Client, job: JobId) -> Outcome<JobView> {
    client
        .job(job)
        .await?
        .ok_or_else(|| Failure::user(format!("the market knows no {job}")).hint("deepmarket job ls --all").code(2020))
}

async fn list(settings: &Settings, all: bool) -> Outcome {
    let client = settings.client()?;
    let mut jobs = Vec::new();
    if all {
        jobs = client.jobs(None).await?;
    } else {
        for name in settings.accounts.names()? {
            jobs.extend(client.jobs(Some(settings.accounts.resolve(Some(&name), None)?)).await?);
        }
    }
    settings.output.show(&jobs, || {
        if jobs.is_empty() {
            return "no jobs yet; submit one with `deepmarket job submit examples/mnist.toml`".into();
        }
        let rows = jobs.iter().map(|j| {
            vec![
                j.id.to_string(),
                j.name.clone(),
                j.status.clone(),
                output::time(j.submitted),
                j.leases.len().to_string(),
                credits(j.paid),
            ]
        });
        output::table(&["job", "name", "state", "submitted", "workers", "paid"], &[4, 5], rows)
    })
}

async fn show(settings: &Settings, job: JobId) -> Outcome {
    let client = settings.client()?;
    let view = fetch(&client, job).await?;
    let history = client.job_history(job, None, 500).await?;
    settings.output.show(&serde_json::json!({ "job": view, "history": history }), || {
        format!("{}\n{}", describe(&view), receipts_table(history.iter().map(|entry| &entry.event)))
    })
}

/// A job for people.
pub fn describe(job: &JobView) -> String {
    let mut rows = vec![
        ("job", format!("{} '{}'", job.id, job.name)),
        ("state", job.status.clone()),
        ("submitted", output::time(job.submitted)),
        ("budget", credits(job.budget)),
        ("paid", credits(job.paid)),
        ("in escrow", credits(job.escrow)),
    ];
    if let (Some(started), Some(ended)) = (job.started, job.ended) {
        rows.insert(3, ("ran for", output::duration(ended.since(started))));
    }
    if let Some(result) = job.result {
        rows.push(("model", result.to_string()));
    }
    let workers = job.leases.iter().map(|l| {
        vec![
            l.rank.to_string(),
            l.id.to_string(),
            l.machine.to_string(),
            l.rounds.to_string(),
            l.samples.to_string(),
            output::duration(l.cpu_ms),
            output::aligned(l.paid),
        ]
    });
    format!(
        "{}\n{}",
        output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value])),
        output::table(&["rank", "lease", "machine", "rounds", "samples", "CPU", "paid (credits)"], &[0, 3, 4, 5, 6], workers)
    )
}

/// Every receipt among some events.
pub fn receipts_table<'a>(events: impl Iterator<Item = &'a Event>) -> String {
    let rows = events.filter_map(|event| match event {
        Event::Receipt { lease, rank, sequence, rounds, samples, paid_ms, payout, .. } => Some(vec![
            lease.to_string(),
            rank.to_string(),
            sequence.to_string(),
            rounds.to_string(),
            samples.to_string(),
            output::duration(*paid_ms),
            output::aligned(*payout),
        ]),
        _ => None,
    });
    output::table(&["lease", "rank", "receipt", "rounds", "samples", "paid for", "payout (credits)"], &[1, 2, 3, 4, 5, 6], rows)
}

/// A quote for people.
pub fn describe_quote(spec: &JobSpec, quote: &Quote) -> String {
    let time = quote.expected_ms.map_or("unknown (no measured machine)".into(), output::duration);
    let start = match (quote.enough, quote.expected_start) {
        (true, _) => "now".to_owned(),
        (false, Some(time)) => output::time(time),
        (false, None) => "when enough machines are on offer".to_owned(),
    };
    let rows = [
        ("job", spec.name.clone()),
        ("model", format!("{} parameters; a worker needs {} MiB", quote.parameters, quote.ram_mib)),
        ("workers", format!("{} now ({} machines meet the demand)", quote.workers, quote.machines)),
        ("start", start),
        ("expected time", time),
        ("expected cost", credits(quote.expected_cost)),
        ("escrow (the most it can cost)", credits(quote.budget)),
    ];
    output::table(&["quote", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

async fn logs(settings: &Settings, job: JobId, follow: bool) -> Outcome {
    let client = settings.client()?;
    fetch(&client, job).await?;
    if !follow {
        let entries = client.progress(job, 0).await?;
        return settings.output.show(&entries, || entries.iter().map(follow::line).collect::<Vec<_>>().join("\n"));
    }
    let stop = stop_signal(false)?;
    let mut stream = client.progress_stream(job);
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => return Ok(()),
        };
        match event {
            Some(Ok(JobEvent::Progress { entry, .. })) if settings.output.is_json() => {
                println!("{}", serde_json::to_string(&entry).map_err(Failure::bug)?);
            }
            Some(Ok(JobEvent::Progress { entry, .. })) => println!("{}", follow::line(&entry)),
            Some(Ok(JobEvent::State { status, .. })) => settings.output.say(format!("{job} is {status}")),
            Some(Ok(JobEvent::End)) | None => return Ok(()),
            Some(Err(error)) if error.retryable() => settings.output.say(error),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}
