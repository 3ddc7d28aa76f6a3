//! A TCP proxy that makes loopback as slow as a line between homes, in this process and without any rights.
//!
//! ```text
//! caller ──▶ proxy ──▶ target      each connection is a line of its own, each way of it too:
//!        ◀──       ◀──             a byte leaves when the line is free (bits a second), and arrives `delay` after it left
//! ```
//!
//! Bytes keep their order, none is lost, and no more is read than the line can carry, so that senders feel its bandwidth. Ends and
//! breaks travel like bytes. Buffers of the operating system come on top: they are kept small (64 KiB) where the proxy can.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// What is read at once: at 20 Mbit/s 3 ms of the line.
const PIECE_BYTES: usize = 8 * 1024;
/// The operating system's buffers at the proxy's ends.
const BUFFER_BYTES: u32 = 64 * 1024;
/// A timer may come this late without the line losing time.
const SLACK: Duration = Duration::from_millis(5);

/// How slow a line is, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// From one end to the other; a round trip takes twice as long.
    pub delay: Duration,
    /// Bits a second; 0 for as many as come.
    pub bits_per_s: u64,
}

impl Line {
    /// As fast as the machine is.
    pub const FAST: Line = Line { delay: Duration::ZERO, bits_per_s: 0 };
    /// A line between homes: a round trip of 80 ms, 20 Mbit/s each way.
    pub const HOME: Line = Line { delay: Duration::from_millis(40), bits_per_s: 20_000_000 };

    /// How long the line is busy with some bytes.
    fn takes(&self, bytes: usize) -> Duration {
        match self.bits_per_s {
            0 => Duration::ZERO,
            bits => Duration::from_secs_f64(bytes as f64 * 8.0 / bits as f64),
        }
    }
}

/// A running proxy. It ends when it is dropped, and its connections with it.
pub struct Proxy {
    address: SocketAddr,
    line: Arc<RwLock<Line>>,
    bytes: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes each connection on to `target`.
    pub fn start(target: SocketAddr, line: Line) -> io::Result<Proxy> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
            socket.set_send_buffer_size(BUFFER_BYTES)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            socket.listen(64)?
        };
        let address = listener.local_addr()?;
        let (line, bytes) = (Arc::new(RwLock::new(line)), Arc::new(AtomicU64::new(0)));
        let (stop, mut stopped) = oneshot::channel();
        let (lines, counter) = (line.clone(), bytes.clone());
        let thread = thread::spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = &mut stopped => return,
                        Ok((caller, _)) = listener.accept() => {
                            tokio::spawn(serve(caller, target, lines.clone(), counter.clone()));
                        }
                    }
                }
            });
        });
        Ok(Proxy { address, line, bytes, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line, also under connections that stand.
    pub fn set_line(&self, line: Line) {
        *self.line.write().expect("nobody panics while holding the line") = line;
    }

    /// Bytes that were carried so far, both ways together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn serve(caller: TcpStream, target: SocketAddr, line: Arc<RwLock<Line>>, bytes: Arc<AtomicU64>) {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.set_send_buffer_size(BUFFER_BYTES)?;
        let called = socket.connect(target).await?;
        called.set_nodelay(true)?;
        caller.set_nodelay(true)?;
        io::Result::Ok(called)
    };
    let Ok(called) = connect.await else { return };
    let ((from_caller, to_caller), (from_called, to_called)) = (caller.into_split(), called.into_split());
    tokio::join!(carry(from_caller, to_called, line.clone(), bytes.clone()), carry(from_called, to_caller, line, bytes),);
}

/// Carries one way of a connection.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    line: Arc<RwLock<Line>>,
    counter: Arc<AtomicU64>,
) {
    // No more is read than the line carries: what is under way is bounded by its delay.
    let (depart, mut arrivals) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let (mut buffer, mut free_at) = (vec![0; PIECE_BYTES], Instant::now());
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            let line = *line.read().expect("nobody panics while holding the line");
            free_at = free_at.max(Instant::now() - SLACK) + line.takes(count);
            counter.fetch_add(count as u64, Ordering::Relaxed);
            let arrives = free_at.max(Instant::now()) + line.delay;
            if depart.send((arrives, buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
            if line.bits_per_s > 0 {
                sleep_until(free_at).await;
            }
        }
    };
    let write = async move {
        while let Some((arrives, piece)) = arrivals.recv().await {
            if arrives > Instant::now() {
                sleep_until(arrives).await;
            }
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use super::*;

    /// Sends everything back until the other side has no more.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut from, mut to) = (stream.as_ref().unwrap().try_clone().unwrap(), stream.unwrap());
                thread::spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(std::net::Shutdown::Write)));
            }
        });
        address
    }

    #[test]
    fn a_byte_takes_the_delay_and_many_take_what_the_line_needs_for_them() {
        let proxy = Proxy::start(echo(), Line::HOME).unwrap();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut byte = [7];
        for _ in 0..3 {
            let began = Instant::now();
            stream.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();
            let took = began.elapsed();
            assert!((Duration::from_millis(78)..Duration::from_millis(400)).contains(&took), "a byte took {took:?}");
        }
        // 1 MB at 20 Mbit/s: 0.4 s; the way back overlaps.
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let began = Instant::now();
        let writing = thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        let took = began.elapsed();
        writing.join().unwrap();
        assert!(back == sent, "every byte comes, in order, and the end too");
        assert!((Duration::from_millis(460)..Duration::from_secs(2)).contains(&took), "1 MB took {took:?}");
        assert_eq!(proxy.bytes(), 2 * 1_000_003);

        proxy.set_line(Line::FAST);
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        let began = Instant::now();
        stream.write_all(&byte).unwrap();
        stream.read_exact(&mut byte).unwrap();
        assert!(began.elapsed() < Duration::from_millis(70));
        drop(proxy);
        assert_eq!(stream.read(&mut byte).unwrap_or(0), 0, "its connections end with it");
    }
}
