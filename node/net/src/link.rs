//! The stream to one other member: a task that reads frames, and one that writes them.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    future::join_all,
    io::{ReadHalf, WriteHalf},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use crate::{
    frame::{FrameHeader, Part},
    wire::within,
};

/// A member that is ahead of us sends frames that nobody here waits for yet: so much of them is kept for each member (or one that
/// is larger). Then reading pauses until we have caught up. All members begin everything in the same order, so that what is
/// waited for never stands behind what nobody will begin.
pub(crate) const AHEAD_KIB: usize = 64 * 1024;
/// The most bytes of a frame that are read or written at once.
const PIECE_BYTES: usize = 64 * 1024;
/// How long saying good-bye may take.
pub(crate) const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A byte stream to another member: over the network, or inside this process.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}
pub(crate) type AnyPipe = Box<dyn Pipe>;

/// What is written to several members is shared.
pub(crate) type Outgoing = Arc<Vec<u8>>;

/// A frame that came.
pub(crate) struct Frame {
    pub header: FrameHeader,
    pub body: Vec<u8>,
    /// When its header came.
    pub came_at: Instant,
}

/// A frame's part of what may be ahead of us; given back when it is dropped.
pub(crate) type Room = OwnedSemaphorePermit;

/// Why nothing more comes from a member.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The stream broke or was closed without a word.
    Lost(String),
    /// It sent something that is no frame.
    Nonsense(String),
    /// It said farewell, and because of whom.
    Left(Option<u32>),
}

/// What a link's reader tells.
pub(crate) enum Event {
    Frame(Frame, Room),
    Ended(Ended),
}

/// Tells one link's events from another's, also from those of an earlier stream to the same member.
pub(crate) type LinkId = u64;

/// The stream to one other member. Dropping it closes it at once, without a word.
pub(crate) struct Link {
    pub id: LinkId,
    /// The other member.
    pub position: u32,
    outbox: Option<mpsc::UnboundedSender<Outgoing>>,
    /// What came and wasn't waited for yet: values, means, notes.
    inbox: [VecDeque<(Frame, Room)>; 3],
    pub ended: Option<Ended>,
    pulse: Arc<Pulse>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Link {
    /// Begins to read and write.
    pub fn start(id: LinkId, position: u32, pipe: AnyPipe, events: mpsc::Sender<(LinkId, Event)>) -> Link {
        let (reader, writer) = pipe.split();
        let (outbox, frames) = mpsc::unbounded_channel();
        let pulse = Arc::new(Pulse::new());
        Link {
            id,
            position,
            outbox: Some(outbox),
            inbox: Default::default(),
            ended: None,
            reader: tokio::spawn(read_frames(reader, position, pulse.clone(), move |event| {
                let events = events.clone();
                async move { events.send((id, event)).await.is_ok() }
            })),
            writer: tokio::spawn(write_frames(writer, frames, pulse.clone())),
            pulse,
        }
    }

    /// Queues a frame. What can't be sent any more is lost: the reader tells that the stream ended.
    pub fn send(&self, frame: Outgoing) {
        if let Some(outbox) = &self.outbox {
            outbox.send(frame).ok();
        }
    }

    /// Takes in what the reader told.
    pub fn take_in(&mut self, event: Event) {
        match event {
            Event::Frame(frame, room) => {
                if let Some(queue) = self.queue(frame.header.part) {
                    queue.push_back((frame, room));
                }
            }
            Event::Ended(ended) => self.ended = Some(ended),
        }
    }

    /// The next frame of a kind, where it came already.
    pub fn next(&mut self, part: Part) -> Option<Frame> {
        let (frame, _room) = self.queue(part)?.pop_front()?;
        Some(frame)
    }

    fn queue(&mut self, part: Part) -> Option<&mut VecDeque<(Frame, Room)>> {
        match part {
            Part::Values => Some(&mut self.inbox[0]),
            Part::Mean => Some(&mut self.inbox[1]),
            Part::Note => Some(&mut self.inbox[2]),
            Part::Farewell => None,
        }
    }

    /// When a byte last moved, in either direction.
    pub fn moved_at(&self) -> Instant {
        self.pulse.last()
    }
}

/// Says good-bye on links and closes them: what was sent before still arrives.
pub(crate) async fn farewell(own: u32, because: Option<u32>, links: Vec<Link>) {
    let word: Outgoing = Arc::new(FrameHeader::farewell(own, because).encode().to_vec());
    let closings = links.into_iter().map(|mut link| {
        link.send(word.clone());
        drop(link.outbox.take());
        async move { within(LEAVE_WITHIN, async { (&mut link.writer).await.map_err(io::Error::other) }).await.ok() }
    });
    join_all(closings).await;
}

/// When something last moved on a stream.
pub(crate) struct Pulse {
    born: Instant,
    micros: AtomicU64,
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse { born: Instant::now(), micros: AtomicU64::new(0) }
    }

    fn beat(&self) {
        self.micros.fetch_max(self.born.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.born + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

async fn read_frames<F: Future<Output = bool>>(
    mut reader: ReadHalf<AnyPipe>,
    position: u32,
    pulse: Arc<Pulse>,
    tell: impl Fn(Event) -> F,
) {
    let room = Arc::new(Semaphore::new(AHEAD_KIB));
    loop {
        let event = match read_frame(&mut reader, position, &pulse, &room).await {
            Ok((frame, _)) if frame.header.part == Part::Farewell => Event::Ended(Ended::Left(frame.header.because())),
            Ok((frame, room)) => Event::Frame(frame, room),
            Err(ended) => Event::Ended(ended),
        };
        let ended = matches!(event, Event::Ended(_));
        if !tell(event).await || ended {
            return;
        }
    }
}

pub(crate) async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    position: u32,
    pulse: &Pulse,
    room: &Arc<Semaphore>,
) -> Result<(Frame, Room), Ended> {
    let lost = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => Ended::Lost("it closed its stream".into()),
        _ => Ended::Lost(e.to_string()),
    };
    let mut header = [0; FrameHeader::BYTES];
    reader.read_exact(&mut header).await.map_err(lost)?;
    pulse.beat();
    let came_at = Instant::now();
    let header = FrameHeader::decode(&header).filter(FrameHeader::is_bounded);
    let header = header.ok_or_else(|| Ended::Nonsense("it sent something that is no frame".into()))?;
    if header.from != position {
        return Err(Ended::Nonsense(format!("it says that it is member {}", header.from)));
    }
    let bytes = header.bytes as usize;
    let kib = (bytes / 1024 + 1).min(AHEAD_KIB) as u32;
    let room = room.clone().acquire_many_owned(kib).await.expect("the semaphore is never closed");
    let mut body = Vec::with_capacity(bytes.min(PIECE_BYTES));
    while body.len() < bytes {
        let start = body.len();
        body.resize(bytes.min(start + PIECE_BYTES), 0);
        reader.read_exact(&mut body[start..]).await.map_err(lost)?;
        pulse.beat();
    }
    Ok((Frame { header, body, came_at }, room))
}

/// Writes until the queue is closed; closes the stream then. When the stream fails the rest isn't written: whoever waits for an
/// answer learns it from the reader.
async fn write_frames(mut writer: WriteHalf<AnyPipe>, mut frames: mpsc::UnboundedReceiver<Outgoing>, pulse: Arc<Pulse>) {
    let write = async {
        while let Some(frame) = frames.recv().await {
            for piece in frame.chunks(PIECE_BYTES) {
                writer.write_all(piece).await?;
                pulse.beat();
            }
            if frames.is_empty() {
                writer.flush().await?;
            }
        }
        writer.close().await
    };
    if let Err(e) = write.await {
        tracing::debug!("writing to a member: {e}");
    }
}
