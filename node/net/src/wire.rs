//! Small messages with a length in front, and deadlines around everything that waits for a peer.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use borsh::{BorshDeserialize, BorshSerialize};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::Stream;
use tokio::{runtime::Handle, time::timeout};

/// The most bytes of a small message (a request, a greeting, an answer).
const MAX_MESSAGE_BYTES: usize = 1024;

/// A future, given up with `TimedOut` after a while.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Writes a small message: u32 LE length ‖ borsh.
pub(crate) async fn send<T: BorshSerialize>(stream: &mut Stream, message: &T) -> io::Result<()> {
    let body = deepmarket_types::encode(message);
    debug_assert!(body.len() <= MAX_MESSAGE_BYTES);
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads a small message; refuses one that is too long or isn't canonical.
pub(crate) async fn receive<T: BorshSerialize + BorshDeserialize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    deepmarket_types::decode(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A stream as blocking code sees it: each read and write has a deadline. For blocking threads only.
pub(crate) struct Blocking {
    stream: Stream,
    runtime: Handle,
    stall: Duration,
}

impl Blocking {
    /// Wraps a stream; call it inside the runtime.
    pub fn new(stream: Stream, stall: Duration) -> Blocking {
        Blocking { stream, runtime: Handle::current(), stall }
    }

    /// Flushes and closes the sending side.
    pub fn close(mut self) -> io::Result<()> {
        self.runtime.block_on(within(self.stall, self.stream.close()))
    }
}

impl Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.runtime.block_on(within(self.stall, self.stream.read(buffer)))
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(within(self.stall, self.stream.write(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(within(self.stall, self.stream.flush()))
    }
}
