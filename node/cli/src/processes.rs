use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use deepmarket_wallet::files::make_private_folder;
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::error::{Failure, Outcome, io};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(8);

/// A part of a local market as a process of its own. It runs in its own process group (Ctrl-C in the terminal reaches only
/// the parent) and ends when its standard input ends: so nothing is left behind, however the parent dies.
pub struct Part {
    pub name: String,
    arguments: Vec<String>,
    folder: PathBuf,
    child: tokio::process::Child,
}

impl Part {
    /// Starts this very program with other arguments; what it prints is appended to `log` in `folder`.
    pub fn start(name: &str, folder: &Path, arguments: Vec<String>) -> Outcome<Part> {
        let child = spawn(folder, &arguments)?;
        Ok(Part { name: name.to_owned(), arguments, folder: folder.to_owned(), child })
    }

    /// Starts it again after its end.
    pub fn restart(&mut self) -> Outcome {
        self.child = spawn(&self.folder, &self.arguments)?;
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it printed.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(log_path(&self.folder)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Asks it to end by closing its standard input; kills it if it doesn't.
    pub async fn stop(&mut self) {
        drop(self.child.stdin.take());
        if timeout(GRACE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("output.log")
}

fn spawn(folder: &Path, arguments: &[String]) -> Outcome<tokio::process::Child> {
    make_private_folder(folder)?;
    let path = log_path(folder);
    let log = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io(path.display()))?;
    let program = std::env::current_exe().map_err(io("this program's own path"))?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::piped());
    command.stdout(log.try_clone().map_err(io(path.display()))?).stderr(log);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).spawn().map_err(io("starting a part of the market"))
}

/// Stops several parts at the same time.
pub async fn stop_all(parts: &mut [Part]) {
    futures::future::join_all(parts.iter_mut().map(Part::stop)).await;
}

/// Cancelled at Ctrl-C, SIGTERM or SIGHUP, and with `with_parent` at the end of standard input.
pub fn stop_signal(with_parent: bool) -> Outcome<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(io("listening for signals"))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    if with_parent {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut sink = [0; 64];
            while matches!(tokio::io::stdin().read(&mut sink).await, Ok(bytes) if bytes > 0) {}
            stop.cancel();
        });
    }
    Ok(stop)
}

/// Ports below those that systems give to outgoing connections (32768 and above on Linux): between choosing a port and
/// listening on it, a connection of any process could take one of these.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that is free now and that this process didn't hand out before.
pub fn free_port() -> Outcome<u16> {
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        // A hasher's keys are random for each process and count up with each hasher.
        let random = RandomState::new().build_hasher().finish();
        let port = PORTS.start + (random % PORTS.len() as u64) as u16;
        if handed_out.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::environment("no free port was found")
        .with_hint("name ports with --consensus-port, --gateway-port and --blob-port"))
}

/// The trainer's program: beside this one, or as `DEEPMARKET_TRAINER` says.
pub fn trainer() -> Outcome<PathBuf> {
    if let Some(path) = std::env::var_os("DEEPMARKET_TRAINER") {
        return Ok(path.into());
    }
    let path = std::env::current_exe().map_err(io("this program's own path"))?.with_file_name("deepmarket-trainer");
    if !path.exists() {
        return Err(Failure::environment(format!("the trainer is missing: {}", path.display()))
            .with_hint("build it with `make build`, or name it with DEEPMARKET_TRAINER"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_and_none_that_connections_take() {
        let ports: BTreeSet<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
