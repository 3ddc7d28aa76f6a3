//! Server-sent events. Each stream is a task that reads what there is, sends it, and waits for more; a slow reader holds up
//! its own task only.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::sse::{Event, KeepAlive, KeepAliveStream, Sse},
};
use deepmarket_api::{BlockEvent, ErrorBody, HistoryEntry, JobEvent};
use deepmarket_types::{Event as ChainEvent, Height, JobId, LeaseId, LeaseState};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use crate::{
    app::App,
    error::Refusal,
    extract::{Id, Params},
    limits::Guest,
};

/// Events that wait for a reader.
const QUEUE: usize = 64;
/// Progress entries that are read at once.
const CHUNK: usize = 256;
/// A comment is sent after this silence, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Events of a job's history that are read at once.
const HISTORY_PAGE: usize = 256;
/// The most events of a job's history that a stream looks through, about a day of three workers' receipts.
const MAX_HISTORY: usize = 20_000;
/// How long the last reports of workers are waited for when a job has closed.
const GRACE: Duration = Duration::from_secs(3);

/// The reader went away, or the gateway stops.
struct Ended;

type Sent = Result<Event, Infallible>;
type Reader = mpsc::Sender<Sent>;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AfterParams {
    /// Resume after the event with this id.
    after: Option<u64>,
}

/// Opens a stream that a task feeds.
fn stream<F>(
    app: &App,
    guest: Guest,
    feed: impl FnOnce(Reader) -> F,
) -> Result<Sse<KeepAliveStream<ReceiverStream<Sent>>>, Refusal>
where
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let place = app.guests.stream(guest)?;
    let (reader, events) = mpsc::channel(QUEUE);
    let (gone, stop, feed) = (reader.clone(), app.stop.clone(), feed(reader));
    tokio::spawn(async move {
        tokio::select! {
            _ = feed => {}
            () = gone.closed() => {}
            () = stop.cancelled() => {}
        }
        drop(place);
    });
    Ok(Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn send<T: Serialize>(reader: &Reader, name: &str, id: Option<u64>, value: &T) -> Result<(), Ended> {
    let mut event = Event::default().event(name).json_data(value).map_err(|_| Ended)?;
    if let Some(id) = id {
        event = event.id(id.to_string());
    }
    reader.send(Ok(event)).await.map_err(|_| Ended)
}

/// Every block and what it changed, as server-sent events with the height as id.
#[utoipa::path(get, path = "/v1/events", tag = "chain", params(AfterParams), responses(
    (status = 200, description = "A stream of BlockEvent", body = BlockEvent, content_type = "text/event-stream"),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn blocks(
    State(app): State<App>,
    Extension(guest): Extension<Guest>,
    Params(params): Params<AfterParams>,
) -> Result<Sse<KeepAliveStream<ReceiverStream<Sent>>>, Refusal> {
    let shared = app.clone();
    stream(&app, guest, move |reader| tell_blocks(shared, params.after, reader))
}

async fn tell_blocks(app: App, after: Option<u64>, reader: Reader) -> Result<(), Ended> {
    let mut heights = app.chain.heights();
    let mut next = after.unwrap_or(heights.borrow().0).saturating_add(1);
    loop {
        let newest = heights.borrow_and_update().0;
        while next <= newest {
            match app.chain.block_event(Height(next)) {
                Ok(Some(event)) => send(&reader, "block", Some(next), &event).await?,
                // Before what this node has: nothing to tell.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, height = next, "a block can't be read");
                    return Err(Ended);
                }
            }
            next += 1;
        }
        heights.changed().await.map_err(|_| Ended)?;
    }
}

/// What a job's workers report, which of them come and go, and how its state changes, until the job is closed and all was
/// sent. Only reports have ids; the chain's events are told from the first one on by every stream.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path), AfterParams), responses(
    (status = 200, description = "A stream of JobEvent", body = JobEvent, content_type = "text/event-stream"),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn job(
    State(app): State<App>,
    Extension(guest): Extension<Guest>,
    Id(id): Id<JobId>,
    Params(params): Params<AfterParams>,
) -> Result<Sse<KeepAliveStream<ReceiverStream<Sent>>>, Refusal> {
    if app.chain.ledger().job(id).is_none() {
        return Err(Refusal::UnknownJob(id.to_string()));
    }
    let shared = app.clone();
    stream(&app, guest, move |reader| tell_job(shared, id, params.after.unwrap_or(0) as usize, reader))
}

async fn tell_job(app: App, id: JobId, after: usize, reader: Reader) -> Result<(), Ended> {
    let log = {
        let app = app.clone();
        super::blocking(move || app.progress.log(id)).await.map_err(|_| Ended)?.map_err(|_| Ended)?
    };
    let (mut count, mut heights) = (log.watch(), app.chain.heights());
    let mut next = after.min(*count.borrow());
    let (mut told, mut closed_at) = (None, None);
    let mut workers = Workers::default();
    loop {
        count.mark_unchanged();
        heights.mark_unchanged();
        // The state is read before the reports: those that came before a job closed are sent before its end.
        let (state, reporting, changes, fresh) = {
            let ledger = app.chain.ledger();
            let job = ledger.job(id).ok_or(Ended)?;
            let leases = ledger.job_leases(id).map(|lease| (lease.id, lease.rank, lease.state));
            let leases: Vec<(LeaseId, u32, LeaseState)> = leases.collect();
            let ended = job.ended.map_or(0, |ended| ledger.time().since(ended));
            // One that is lost never reports its totals.
            let reporting: Vec<u32> =
                leases.iter().filter(|(_, _, state)| *state != LeaseState::Lost).map(|(_, rank, _)| *rank).collect();
            let changes = workers.changed((job.generation, leases));
            (job.state, reporting, changes, ended < GRACE.as_millis() as u64)
        };
        let told_now = told.replace(state) == Some(state);
        let announce = JobEvent::State { state, status: state.to_string() };
        if !told_now && !state.is_closed() {
            send(&reader, "state", None, &announce).await?;
        }
        if changes {
            for entry in workers.news(&app, id).await? {
                send(&reader, "chain", None, &JobEvent::Chain { entry }).await?;
            }
        }
        loop {
            let entries = log.after(next, CHUNK);
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                next += 1;
                let index = next as u64;
                send(&reader, "progress", Some(index), &JobEvent::Progress { index, entry }).await?;
            }
        }
        if state.is_closed() {
            if !told_now {
                send(&reader, "state", None, &announce).await?;
            }
            // Workers send their totals after the last receipt. One that died never will.
            let grace = if fresh || closed_at.is_some() { GRACE } else { Duration::ZERO };
            let closed_at = *closed_at.get_or_insert_with(Instant::now);
            if log.all_done(reporting) || closed_at.elapsed() >= grace {
                return send(&reader, "end", None, &JobEvent::End).await;
            }
        }
        tokio::select! {
            changed = count.changed() => changed.map_err(|_| Ended)?,
            changed = heights.changed() => changed.map_err(|_| Ended)?,
            () = tokio::time::sleep(Duration::from_millis(250)), if closed_at.is_some() => {}
        }
    }
}

/// What a stream has told of a job's workers.
#[derive(Default)]
struct Workers {
    /// The job's generation and its leases with their ranks and states.
    seen: (u32, Vec<(LeaseId, u32, LeaseState)>),
    /// The place of the last event of the job's history that was read.
    read: Option<(Height, u32)>,
}

impl Workers {
    /// Is there anything new? Histories are read only then, not for each block.
    fn changed(&mut self, now: (u32, Vec<(LeaseId, u32, LeaseState)>)) -> bool {
        let changed = self.seen != now;
        self.seen = now;
        changed
    }

    /// The events since the last time, oldest first.
    async fn news(&mut self, app: &App, id: JobId) -> Result<Vec<HistoryEntry>, Ended> {
        let (app, read) = (app.clone(), self.read);
        let history = super::blocking(move || history_after(&app, id, read)).await.map_err(|_| Ended)?;
        let history = history.map_err(|error| {
            tracing::error!(%error, job = %id, "the job's history can't be read");
            Ended
        })?;
        self.read = history.last().map(|entry| (entry.height, entry.index)).or(self.read);
        let is_of_workers = |entry: &HistoryEntry| matches!(entry.event, ChainEvent::Lease { .. } | ChainEvent::Members { .. });
        Ok(history.into_iter().filter(is_of_workers).collect())
    }
}

/// A job's events after a place, oldest first, at most [`MAX_HISTORY`] of them.
fn history_after(app: &App, id: JobId, after: Option<(Height, u32)>) -> Result<Vec<HistoryEntry>, Refusal> {
    let mut newest_first: Vec<HistoryEntry> = Vec::new();
    loop {
        let before = newest_first.last().map(|entry| (entry.height, entry.index));
        let page = app.chain.job_history(id, before, HISTORY_PAGE)?;
        let new = page.iter().take_while(|entry| Some((entry.height, entry.index)) > after).count();
        let is_last = new < HISTORY_PAGE;
        newest_first.extend(page.into_iter().take(new));
        if is_last || newest_first.len() >= MAX_HISTORY {
            break;
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}
