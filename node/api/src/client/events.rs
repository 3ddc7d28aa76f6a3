//! Server-sent events (the event-stream format of the HTML standard, section 9.2): parsed by hand, bounded, resumed.

use std::{collections::HashSet, time::Duration};

use deepmarket_types::{Height, JobId};
use futures::{Stream, stream};
use reqwest::Response;
use serde::de::DeserializeOwned;

use super::{
    Client, Place,
    error::ApiError,
    transport::{Ask, Failures},
};
use crate::{BlockEvent, JobEvent};

/// The most bytes of one event: a full block's events stay below it.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;
/// The most entries that a stream remembers to drop doubles; more than a gateway keeps for one job.
const MAX_SEEN: usize = 100_000;
/// How long opening a stream may take.
const OPENING: Duration = Duration::from_secs(10);
/// The pause before all gateways are asked again; doubles up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// One event as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// Cuts a byte stream into events.
#[derive(Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    scanned: usize,
    event: Sent,
    has_data: bool,
}

impl Parser {
    /// Takes bytes in; refuses an event that is too long.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.buffer.len() + self.event.data.len() + bytes.len() > MAX_EVENT_BYTES {
            return Err(format!("an event of more than {MAX_EVENT_BYTES} bytes"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole event, where there is one.
    pub(super) fn next(&mut self) -> Result<Option<Sent>, String> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                "id" => self.event.id = Some(value.to_owned()),
                // Comments (an empty field), `event` (our data says itself what it is) and unknown fields.
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
            self.scanned = self.buffer.len();
            return Ok(None);
        };
        let mut line: Vec<u8> = self.buffer.drain(..=self.scanned + end).collect();
        self.scanned = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map(Some).map_err(|_| "an event that isn't UTF-8".into())
    }
}

/// The data of the events in a stream that comes in pieces, for the fuzz targets in `fuzz/`.
#[doc(hidden)]
pub fn parse_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, String> {
    let (mut parser, mut events) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece)?;
        while let Some(sent) = parser.next()? {
            events.push(sent.data);
        }
    }
    Ok(events)
}

/// A stream of events that reconnects.
struct Source {
    client: Client,
    path: String,
    open: Option<(usize, Response, Parser)>,
    /// The id of the last event, and the gateway that sent it.
    last: Option<(usize, String)>,
    /// Does an id mean the same at every gateway?
    shared_ids: bool,
    pause: Option<Duration>,
}

impl Source {
    fn new(client: Client, path: String, after: Option<String>, shared_ids: bool) -> Source {
        let last = after.map(|id| (client.transport().order().next().unwrap_or(0), id));
        Source { client, path, open: None, last, shared_ids, pause: None }
    }

    /// The next event. After an error that is [`ApiError::retryable`] it may be called again, and pauses first.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        loop {
            let (gateway, mut response, mut parser) = match self.open.take() {
                Some(open) => open,
                None => self.connect().await?,
            };
            let bad = |why: String| self.client.transport().bad_answer(gateway, why);
            if let Some(sent) = parser.next().map_err(bad)? {
                let value = serde_json::from_str(&sent.data).map_err(|e| bad(e.to_string()))?;
                if let Some(id) = sent.id {
                    self.last = Some((gateway, id));
                }
                self.pause = None;
                self.open = Some((gateway, response, parser));
                return Ok(value);
            }
            // A gateway that went away (or an idle proxy on the way) isn't an error while another one answers.
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    parser.push(&bytes).map_err(bad)?;
                    self.open = Some((gateway, response, parser));
                }
                Ok(None) | Err(_) => self.back_off(),
            }
        }
    }

    fn back_off(&mut self) {
        self.pause = Some(self.pause.map_or(PAUSE.0, |pause| (pause * 2).min(PAUSE.1)));
    }

    async fn connect(&mut self) -> Result<(usize, Response, Parser), ApiError> {
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
        }
        let transport = self.client.transport();
        let mut failures = Failures::default();
        for gateway in transport.order() {
            let after = self.last.as_ref().filter(|(from, _)| self.shared_ids || *from == gateway).map(|(_, id)| id);
            let ask = Ask::get(&*self.path).maybe("after", after).header("accept", "text/event-stream").timeout(None);
            let opened = match tokio::time::timeout(OPENING, transport.once(gateway, &ask)).await {
                Ok(opened) => opened,
                Err(_) => Err(transport.unreachable(gateway, "no answer in time".into())),
            };
            match opened {
                Ok(response) => {
                    transport.answered(gateway);
                    return Ok((gateway, response, Parser::default()));
                }
                Err(error) if error.retryable() => failures.push(error),
                Err(error) => return Err(error),
            }
        }
        self.back_off();
        Err(failures.into_error())
    }
}

/// What a job's workers report and how its state changes, from the beginning (or the gateway's entry `after`) until the job
/// is closed: the last item is [`JobEvent::End`].
///
/// Reconnects and fails over by itself, and drops what it already gave. An error that is [`ApiError::retryable`] means that
/// no gateway answers just now: poll on to keep trying. After another error the stream ends.
pub(super) fn job_events(
    client: Client,
    job: JobId,
    after: Option<u64>,
) -> impl Stream<Item = Result<JobEvent, ApiError>> + Send {
    let path = format!("/v1/jobs/{job}/events");
    // Each gateway numbers the reports in the order in which they reached it, so the number is of use there only.
    let source = Source::new(client, path, after.map(|after| after.to_string()), false);
    stream::unfold(Some((source, Told::default())), |state| async {
        let (mut source, mut told) = state?;
        loop {
            match source.next().await {
                Ok(JobEvent::End) => return Some((Ok(JobEvent::End), None)),
                Ok(event) if told.before(&event) => {}
                Ok(event) => return Some((Ok(event), Some((source, told)))),
                Err(error) if error.retryable() => return Some((Err(error), Some((source, told)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}

/// What a stream of a job gave already.
#[derive(Default)]
struct Told {
    /// Ranks and numbers of reports.
    reports: HashSet<(u32, u64)>,
    /// The place of the chain's last event. Gateways tell these in the chain's order, each time from the first one on.
    chain: Option<Place>,
}

impl Told {
    /// Was this event told before? It counts as told from now on.
    fn before(&mut self, event: &JobEvent) -> bool {
        match event {
            JobEvent::Progress { entry, .. } => {
                self.reports.len() < MAX_SEEN && !self.reports.insert((entry.rank, entry.sequence))
            }
            JobEvent::Chain { entry } => {
                let place = Some((entry.height, entry.index));
                let known = place <= self.chain;
                self.chain = self.chain.max(place);
                known
            }
            JobEvent::State { .. } | JobEvent::End => false,
        }
    }
}

/// Every block after `after` (or: from now on), each once and in order. Errors as with [`job_events`]; it never ends by
/// itself.
pub(super) fn block_events(client: Client, after: Option<Height>) -> impl Stream<Item = Result<BlockEvent, ApiError>> + Send {
    let source = Source::new(client, "/v1/events".into(), after.map(|height| height.to_string()), true);
    stream::unfold(Some((source, after)), |state| async {
        let (mut source, mut last) = state?;
        loop {
            match source.next::<BlockEvent>().await {
                Ok(event) if last.is_some_and(|last| event.height <= last) => {}
                Ok(event) => {
                    last = Some(event.height);
                    return Some((Ok(event), Some((source, last))));
                }
                Err(error) if error.retryable() => return Some((Err(error), Some((source, last)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: Option<&str>, data: &str) -> Sent {
        Sent { id: id.map(str::to_owned), data: data.into() }
    }

    #[test]
    fn events_are_cut_the_same_way_wherever_the_bytes_are_split() {
        let text =
            ": hello\n\nid: 7\nevent: progress\ndata: {\"a\":\ndata:1}\n\nretry: 10\n\r\ndata: two\r\n\r\ndata: unfinished";
        for split in 0..=text.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for part in [&text[..split], &text[split..]] {
                parser.push(part.as_bytes()).unwrap();
                while let Some(event) = parser.next().unwrap() {
                    events.push(event);
                }
            }
            assert_eq!(events, [sent(Some("7"), "{\"a\":\n1}"), sent(None, "two")], "split at {split}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        let refused = (0..17).any(|_| parser.push(&line).is_err() || parser.next().is_err());
        assert!(refused);
    }
}
