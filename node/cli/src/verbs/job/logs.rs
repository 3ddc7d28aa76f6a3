use std::collections::HashSet;

use deepmarket_api::{HistoryEntry, JobEvent, Progress};
use deepmarket_types::{JobId, TimeMs};
use deepmarket_wallet::jobs;
use futures::StreamExt as _;
use serde::Serialize;

use super::{Known, record::Story};
use crate::{
    error::{Failure, Outcome},
    output,
    processes::stop_signal,
    settings::Settings,
    verbs::follow,
};

pub async fn run(settings: &Settings, job: JobId, follow: bool) -> Outcome {
    let client = settings.client()?;
    let view = jobs::fetch(&client, job).await?;
    let known = super::known(&client, job).await?;
    let output = settings.output;
    let mut story = Story::default();
    let entries = in_order(&known);
    if !follow {
        output.show(&entries, || {
            let lines: Vec<String> = entries.iter().flat_map(|entry| entry.lines(&mut story)).collect();
            if lines.is_empty() { format!("nothing is reported yet: {job} is {}", view.status) } else { lines.join("\n") }
        })?;
        if !view.state.is_closed() {
            output.next(format!("deepmarket job logs {job} --follow"));
        }
        return Ok(());
    }
    let mut print = |entry: &Entry| -> Outcome {
        if output.is_json() {
            println!("{}", serde_json::to_string(entry).map_err(Failure::bug)?);
        } else {
            entry.lines(&mut story).iter().for_each(|line| println!("{line}"));
        }
        Ok(())
    };
    entries.iter().try_for_each(&mut print)?;
    let mut told: HashSet<Key> = entries.iter().map(Entry::key).collect();
    let stop = stop_signal(false)?;
    let mut stream = client.progress_stream(job);
    let mut sight = follow::Sight::default();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => return Ok(()),
        };
        let entry = match event {
            Some(Ok(JobEvent::Progress { entry, .. })) => Entry::Report(entry),
            Some(Ok(JobEvent::Chain { entry })) => Entry::Chain(entry),
            Some(Ok(JobEvent::State { status, .. })) => {
                output.say(format!("{job} is {status}"));
                continue;
            }
            Some(Ok(JobEvent::End)) | None => return Ok(()),
            Some(Err(error)) => {
                sight.fails(job, error, |words| output.say(words))?;
                continue;
            }
        };
        sight.is_back();
        if told.insert(entry.key()) {
            print(&entry)?;
        }
    }
}

/// One entry of a job's log.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    /// A worker reported.
    Report(Progress),
    /// The chain tells of the workers.
    Chain(HistoryEntry),
}

/// What makes an entry the same as another one.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Report(u32, u64),
    Chain(u64, u32),
}

impl Entry {
    fn key(&self) -> Key {
        match self {
            Entry::Report(report) => Key::Report(report.rank, report.sequence),
            Entry::Chain(entry) => Key::Chain(entry.height.0, entry.index),
        }
    }

    fn time(&self) -> TimeMs {
        match self {
            Entry::Report(report) => report.time,
            Entry::Chain(entry) => entry.time,
        }
    }

    fn lines(&self, story: &mut Story) -> Vec<String> {
        let time = output::time(self.time());
        let time = time.trim_end_matches(" UTC");
        match self {
            Entry::Report(report) => vec![format!("{time} worker {}: {}", report.rank, follow::words(&report.kind))],
            Entry::Chain(entry) => story.tell(&entry.event).into_iter().map(|line| format!("{time} chain: {line}")).collect(),
        }
    }
}

/// Everything that is known, by time. Workers' clocks may differ; what one of them, or the chain, told stays in its order.
fn in_order(known: &Known) -> Vec<Entry> {
    let chain = known.workers.iter().cloned().map(Entry::Chain);
    let reports = known.record.by_time().into_iter().cloned().map(Entry::Report);
    let mut entries: Vec<Entry> = chain.chain(reports).collect();
    entries.sort_by_key(Entry::time);
    entries
}

#[cfg(test)]
mod tests {
    use deepmarket_api::ProgressKind;
    use deepmarket_types::{Event, Height, LeaseId, LeaseState, MachineId, SecretKey};

    use super::{super::record::Record, *};

    #[test]
    fn a_log_tells_in_the_order_of_time_what_workers_and_the_chain_say() {
        let (lease, job) = (LeaseId(4), JobId(1));
        let machine = MachineId::from_key(&SecretKey::from_seed([1; 32]).public());
        let event = |second: u64, index, event| {
            let time = TimeMs(second * 1000);
            HistoryEntry { height: Height(second), time, index, transaction: None, event }
        };
        let line = |second: u64, sequence, line: &str| Progress {
            time: TimeMs(second * 1000),
            rank: 0,
            sequence,
            kind: ProgressKind::Log { line: line.into() },
        };
        let known = Known {
            record: Record::of([line(3, 2, "is ready"), line(2, 1, "begins")]),
            workers: vec![
                event(2, 0, Event::Lease { lease, job, rank: 0, machine, state: LeaseState::Active }),
                event(4, 0, Event::Members { job, generation: 1, members: vec![lease] }),
                event(5, 0, Event::Lease { lease, job, rank: 0, machine, state: LeaseState::Lost }),
                event(5, 1, Event::Members { job, generation: 2, members: vec![] }),
            ],
        };
        let mut story = Story::default();
        let lines: Vec<String> = in_order(&known).iter().flat_map(|entry| entry.lines(&mut story)).collect();
        let expected = [
            format!("1970-01-01 00:00:02 chain: worker 0 gets ready, on {machine}"),
            "1970-01-01 00:00:02 worker 0: begins".into(),
            "1970-01-01 00:00:03 worker 0: is ready".into(),
            "1970-01-01 00:00:04 chain: worker 0 begins to train".into(),
            "1970-01-01 00:00:05 chain: worker 0 is lost; nobody is left: the job waits for machines".into(),
        ];
        assert_eq!(lines, expected);
    }
}
