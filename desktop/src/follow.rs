//! A job's page: its past in one message, then what happens, each report once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use deepmarket_api::{Client, JobEvent, Progress};
use deepmarket_job::{JobSpec, Kind};
use deepmarket_types::{JobId, SlotClock};
use futures::StreamExt as _;
use tauri::ipc::Channel;
use tokio_util::sync::CancellationToken;

use crate::{
    convert,
    error::Answer,
    state::{App, hold},
    view::{CommandError, JobDetail, JobNews, Report},
};

/// How often reports are handed on: a curve needs no more.
const TELL: Duration = Duration::from_millis(250);
/// How often the job itself is fetched while it is open.
const FETCH: Duration = Duration::from_secs(2);

/// Follows a job until it is closed and everything was told, or until stopped.
pub async fn run(app: &App, client: Client, clock: SlotClock, job: JobId, channel: Channel<JobNews>, stop: CancellationToken) {
    let told = Told { channel, detail: None, seen: HashSet::new(), reports: Vec::new(), in_trouble: false };
    let mut follower = Follower { app, client, clock, job, told };
    tokio::select! {
        () = follower.run() => {}
        () = stop.cancelled() => {}
    }
}

/// The job's page as it is now.
pub async fn detail(app: &App, client: &Client, clock: &SlotClock, job: JobId) -> Answer<JobDetail> {
    let view = client.job(job).await?.ok_or_else(|| unknown(job))?;
    let spec = JobSpec::from_toml(&view.spec, &|_| None).ok();
    let mut leases = Vec::with_capacity(view.leases.len());
    for lease in &view.leases {
        leases.push(convert::lease(lease, &view, machine_name(app, client, lease.machine).await));
    }
    Ok(JobDetail {
        kind: match spec.as_ref().map(|spec| spec.kind) {
            Some(Kind::Evaluate) => "evaluate".into(),
            Some(Kind::Predict) => "predict".into(),
            Some(Kind::Train) | None => "train".into(),
        },
        epochs: spec.filter(|spec| spec.kind == Kind::Train).map_or(0, |spec| spec.training.epochs),
        job: convert::job(&view, clock),
        leases,
        result: view.result.map(|hash| hash.to_hex()),
        checkpoint_rounds: view.checkpoint.map(|checkpoint| checkpoint.rounds),
        failures: view.failures,
        spec: view.spec,
    })
}

pub fn unknown(job: JobId) -> CommandError {
    CommandError::new(2020, format!("the market knows no {job}"), "choose one of your jobs")
}

/// A machine's name; its id where nobody tells.
pub async fn machine_name(app: &App, client: &Client, machine: deepmarket_types::MachineId) -> String {
    if let Some(name) = hold(&app.machine_names).get(&machine) {
        return name.clone();
    }
    let Ok(Some(view)) = client.machine(machine).await else { return machine.to_string() };
    hold(&app.machine_names).insert(machine, view.config.name.clone());
    view.config.name
}

struct Follower<'a> {
    app: &'a App,
    client: Client,
    clock: SlotClock,
    job: JobId,
    told: Told,
}

struct Told {
    channel: Channel<JobNews>,
    detail: Option<JobDetail>,
    /// Rank and number of each report that was told.
    seen: HashSet<(u32, u64)>,
    /// What waits to be told.
    reports: Vec<Report>,
    in_trouble: bool,
}

impl Follower<'_> {
    async fn run(&mut self) {
        self.refresh().await;
        match self.client.all_progress(self.job).await {
            Ok(entries) => {
                entries.into_iter().for_each(|entry| self.told.take(entry));
                self.told.flush();
            }
            // The stream gives them all, too.
            Err(error) => self.told.trouble(error.into()),
        }
        let mut stream = self.client.progress_stream(self.job);
        let (mut flush, mut fetched, mut changed) = (tokio::time::interval(TELL), Instant::now(), false);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => {
                        // The job is told again, so that the page knows that the trouble is over.
                        changed |= self.told.in_trouble;
                        match event {
                            JobEvent::Progress { entry, .. } => self.told.take(entry),
                            JobEvent::State { .. } | JobEvent::Chain { .. } => changed = true,
                            JobEvent::End => break,
                        }
                    }
                    Some(Err(error)) => self.told.trouble(error.into()),
                    // It doesn't end by itself before the job does.
                    None => {
                        tokio::time::sleep(FETCH).await;
                        stream = self.client.progress_stream(self.job);
                    }
                },
                _ = flush.tick() => {
                    self.told.flush();
                    let due = if changed { TELL * 2 } else { FETCH };
                    if fetched.elapsed() >= due {
                        (fetched, changed) = (Instant::now(), false);
                        self.refresh().await;
                    }
                }
            }
        }
        self.told.flush();
        self.refresh().await;
        self.told.tell(JobNews::End);
    }

    async fn refresh(&mut self) {
        match detail(self.app, &self.client, &self.clock, self.job).await {
            Ok(detail) if !self.told.in_trouble && self.told.detail.as_ref() == Some(&detail) => {}
            Ok(detail) => {
                self.told.in_trouble = false;
                self.told.detail = Some(detail.clone());
                self.told.tell(JobNews::Detail(Box::new(detail)));
            }
            Err(error) => self.told.trouble(error),
        }
    }
}

impl Told {
    fn tell(&self, news: JobNews) {
        let _ = self.channel.send(news);
    }

    fn take(&mut self, entry: Progress) {
        if self.seen.insert((entry.rank, entry.sequence)) {
            self.reports.extend(convert::report(&entry));
        }
    }

    fn flush(&mut self) {
        if !self.reports.is_empty() {
            let reports = std::mem::take(&mut self.reports);
            self.tell(JobNews::Reports(reports));
        }
    }

    /// Once for each time that the connection is lost.
    fn trouble(&mut self, error: CommandError) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            self.tell(JobNews::Trouble(error.message));
        }
    }
}
