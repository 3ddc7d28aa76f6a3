//! The command line's program as a child process: it runs in its own process group, hears the end of PLUTO as the end of its
//! standard input, and its last lines are kept.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use deepmarket_wallet::answers;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, Command},
    sync::{RwLock, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Answer, CHILD, bug, without_commands},
    state::hold,
    view::CommandError,
};

/// How many of the last lines are kept, and how much of each.
const KEPT_LINES: usize = 50;
const MAX_LINE: usize = 4096;
/// The most bytes that an answer may have.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(8);

/// A running child.
pub struct Child {
    process: tokio::process::Child,
    pid: u32,
    /// Its end is heard at the other side.
    life_line: Option<ChildStdin>,
    lines: Arc<Mutex<VecDeque<String>>>,
    answer: Option<oneshot::Receiver<Value>>,
}

/// The program `deepmarket`: named by the environment, beside PLUTO, or where the shell finds it.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PLUTO_DEEPMARKET") {
        return path.into();
    }
    let beside =
        std::env::current_exe().ok().map(|path| path.with_file_name(format!("deepmarket{}", std::env::consts::EXE_SUFFIX)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| "deepmarket".into())
}

impl Child {
    /// Starts `deepmarket --json …`, and says one line to it where there is something to say.
    pub async fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, line: Option<&str>) -> Answer<Child> {
        let program = program();
        let mut command = Command::new(&program);
        command.arg("--json").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn().map_err(|error| {
            let message = format!("the program {} can't be started: {error}", program.display());
            CommandError::new(CHILD, message, "install `deepmarket` beside PLUTO, or name it with PLUTO_DEEPMARKET")
        })?;
        let pid = process.id().ok_or_else(|| bug("a process that was just started has no number"))?;
        let mut life_line = process.stdin.take();
        let (stdout, stderr) = match (process.stdout.take(), process.stderr.take()) {
            (Some(stdout), Some(stderr)) => (stdout, stderr),
            _ => return Err(bug("a child's output was not asked for")),
        };
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        tokio::spawn(keep_lines(stderr, lines.clone()));
        let (sender, answer) = oneshot::channel();
        tokio::spawn(answers::hear(stdout, MAX_ANSWER, sender));
        if let (Some(input), Some(line)) = (&mut life_line, line) {
            // One that ended already says why on standard error.
            let _ = input.write_all(format!("{line}\n").as_bytes()).await;
            let _ = input.flush().await;
        }
        Ok(Child { process, pid, life_line, lines, answer: Some(answer) })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The last lines that it printed for people.
    pub fn lines(&self) -> Vec<String> {
        hold(&self.lines).iter().cloned().collect()
    }

    /// The first value that it answers; an error where it ends without, in its own words.
    pub async fn answer(&mut self) -> Answer<Value> {
        let Some(answer) = self.answer.take() else { return Err(bug("a child was asked for a second answer")) };
        match answer.await {
            Ok(value) => understood(value),
            Err(_) => {
                let _ = timeout(GRACE, self.process.wait()).await;
                Err(self.failure())
            }
        }
    }

    /// Why it ended, by its last lines.
    pub fn failure(&self) -> CommandError {
        let lines = self.lines();
        let told = lines.iter().rev().find_map(|line| Some(line.split_once("error")?.1.split_once(": ")?.1.to_owned()));
        let last = told.or_else(|| lines.last().cloned()).map(|last| without_commands(&last));
        let last = last.filter(|last| !last.is_empty()).unwrap_or_else(|| "it said nothing".into());
        CommandError::passing(CHILD, format!("the program `deepmarket` ended: {last}"), "")
    }

    /// Has it ended by itself? `Some(true)` where it did so in good order.
    pub fn ended(&mut self) -> Option<bool> {
        self.process.try_wait().ok().flatten().map(|status| status.success())
    }

    /// Asks it to end, and makes it end where it doesn't.
    pub async fn stop(&mut self) {
        drop(self.life_line.take());
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| self.ended().is_none()) else { return };
        let _ = kill_process(pid, Signal::TERM);
        if timeout(GRACE, self.process.wait()).await.is_err() {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.process.wait().await;
        }
    }
}

/// Commands that run to their end: PLUTO's end is theirs, too.
#[derive(Default)]
pub struct Runs {
    ending: CancellationToken,
    running: RwLock<()>,
}

impl Runs {
    /// Runs a command to its end; gives what it answered.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, within: Duration) -> Answer<Value> {
        let _running = self.running.read().await;
        let mut child = Child::start(arguments, None).await?;
        let outcome = tokio::select! {
            outcome = timeout(within, child.answer()) => outcome.unwrap_or_else(|_| {
                Err(CommandError::passing(CHILD, format!("no answer within {} s", within.as_secs()), "try again"))
            }),
            () = self.ending.cancelled() => Err(CommandError::new(CHILD, "PLUTO ends", "")),
        };
        child.stop().await;
        outcome
    }

    /// Ends all, and returns when they have ended.
    pub async fn end(&self) {
        self.ending.cancel();
        let _ = self.running.write().await;
    }
}

/// The value, or the error that it tells of.
fn understood(value: Value) -> Answer<Value> {
    let Some(error) = value.get("error").filter(|error| error.get("message").is_some()) else { return Ok(value) };
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(without_commands).unwrap_or_default();
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    let message = Some(text("message")).filter(|message| !message.is_empty());
    Err(CommandError::new(code, message.unwrap_or_else(|| "the program `deepmarket` failed".into()), text("hint")))
}

async fn keep_lines(stderr: tokio::process::ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) {
    let (mut stderr, mut line) = (BufReader::new(stderr), Vec::new());
    // What is longer than a line may be is cut: it may come from a machine elsewhere.
    while let Ok(1..) = (&mut stderr).take(MAX_LINE as u64).read_until(b'\n', &mut line).await {
        let mut kept = hold(&kept);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_program_is_told_in_its_own_words() {
        let error = serde_json::json!({ "error": { "code": 2033, "message": "it offers more than it has", "hint": "deepmarket lend invite" } });
        let error = understood(error).unwrap_err();
        assert_eq!((error.code, error.message.as_str(), error.hint.as_str()), (2033, "it offers more than it has", ""));
        assert!(understood(serde_json::json!({ "machine": "dmm1" })).is_ok());
    }

    #[tokio::test]
    async fn endless_lines_are_cut_and_only_the_last_ones_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 10000 /dev/zero | tr '\\0' x >&2; echo >&2; seq 100 >&2"]).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        keep_lines(process.stderr.take().unwrap(), kept.clone()).await;
        process.wait().await.unwrap();
        let kept = hold(&kept);
        assert_eq!((kept.len(), kept.back().map(String::as_str)), (KEPT_LINES, Some("100")));
        assert!(kept.iter().all(|line| line.len() <= MAX_LINE));
    }
}
