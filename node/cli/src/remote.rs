//! Running a command on another machine by the system's `ssh`: with the user's own agent and configuration, only where the
//! host's key is pinned, and never with a password.

use std::{
    collections::VecDeque,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    str::FromStr,
    time::Duration,
};

use deepmarket_wallet::answers;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    error::{Failure, Outcome, io},
    output::Output,
};

/// How long the other side may take to end after its standard input ended.
const GRACE: Duration = Duration::from_secs(15);
/// Lines of standard error that are kept to explain an end.
const KEPT_LINES: usize = 30;
/// The most bytes of the other side's answer.
const MAX_ANSWER: usize = 1024 * 1024;
/// What `ssh` itself ends with, whatever the command over there ended with.
const SSH_FAILED: i32 = 255;

/// `USER@HOST:PORT`; user and port are as the user's SSH configuration says where they aren't given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;

    /// Nothing of it can be taken for an option or for a shell's word.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| Err(format!("'{text}' is not a machine that SSH reaches: {why}; write USER@HOST or USER@HOST:PORT"));
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("no colon"))),
            // A second colon: an address of IPv6 without brackets and port.
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let fine = |name: &str, others: &str| {
            !name.is_empty() && !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
        };
        if user.is_some_and(|user| !fine(user, "-_.+")) {
            return wrong("the user's name");
        }
        if !fine(host, "-_.:%") {
            return wrong("the host's name");
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return wrong("the port"),
        };
        Ok(Target { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

/// How a machine is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    pub target: Target,
    /// A private key, instead of the agent's.
    pub identity: Option<PathBuf>,
    /// Pinned host keys, instead of the user's.
    pub known_hosts: Option<PathBuf>,
}

impl Connection {
    /// The arguments of `ssh` that run a command over there.
    fn arguments(&self, command: &[&str]) -> Vec<String> {
        let mut options: Vec<String> = [
            "StrictHostKeyChecking=yes",
            // No question is ever asked: no password, no passphrase, no "are you sure".
            "BatchMode=yes",
            "ClearAllForwardings=yes",
            "ForwardAgent=no",
            "ConnectTimeout=15",
            // A connection that broke without a word ends within a minute.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=3",
        ]
        .map(str::to_owned)
        .into();
        if self.identity.is_some() {
            options.push("IdentitiesOnly=yes".into());
        }
        if let Some(path) = &self.known_hosts {
            options.push(format!("UserKnownHostsFile={}", path.display()));
            options.push("GlobalKnownHostsFile=/dev/null".into());
        }
        let mut arguments = vec!["-T".to_owned()];
        arguments.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        arguments.extend(self.identity.iter().flat_map(|path| ["-i".to_owned(), path.display().to_string()]));
        arguments.extend(self.target.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        arguments.extend(self.target.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        arguments.extend(["--".to_owned(), self.target.host.clone()]);
        arguments.push(command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
        arguments
    }

    /// Runs a short command; gives what it printed.
    pub async fn ask(&self, command: &[&str], within: Duration) -> Outcome<String> {
        let mut ssh = Command::new("ssh");
        ssh.args(self.arguments(command)).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let output = timeout(within, ssh.output())
            .await
            .map_err(|_| Failure::environment(format!("{} didn't answer within {} s", self.target.host, within.as_secs())))?;
        let output = output.map_err(no_ssh)?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(self.explain(output.status, &String::from_utf8_lossy(&output.stderr), command[0])),
        }
    }

    /// Why it ended, and what to do.
    pub fn explain(&self, status: ExitStatus, words: &str, program: &str) -> Failure {
        let Target { user, host, port } = &self.target;
        let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
        // As known_hosts names it.
        let pinned = port.map_or(host.clone(), |port| format!("'[{host}]:{port}'"));
        let port = port.map_or(String::new(), |port| format!("-p {port} "));
        let login = user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"));
        let file = self.known_hosts.as_ref().map_or("~/.ssh/known_hosts".into(), |path| path.display().to_string());
        match status.code() {
            Some(SSH_FAILED) if words.contains("HAS CHANGED") || words.contains("has changed and you have requested") => {
                Failure::user(format!("{host} shows another key than the one that is pinned: {last}")).with_hint(format!(
                    "ask the machine's administrator why; only then remove the old key: ssh-keygen -R {pinned} -f {file}"
                ))
            }
            Some(SSH_FAILED) if words.contains("Host key verification failed") || words.contains("host key is known for") => {
                Failure::user(format!("the key of {host} isn't pinned in {file}")).with_hint(format!(
                    "see its fingerprint with `ssh-keyscan {port}{host} | ssh-keygen -lf -`, compare it with what the machine's administrator says, then pin it: ssh-keyscan {port}{host} >> {file}"
                ))
            }
            Some(SSH_FAILED) if words.contains("Permission denied") => {
                Failure::user(format!("{host} doesn't let you in: {last}")).with_hint(format!(
                    "put your public key there once (ssh-copy-id {port}{login}), load it into your agent (ssh-add), or name it with --identity; passwords are not used"
                ))
            }
            Some(SSH_FAILED) => Failure::environment(format!("no connection to {host}: {last}"))
                .with_hint("does `ssh` itself reach it? is it on, and is its name or address right?"),
            Some(126 | 127) => Failure::user(format!("{host} has no program '{program}' that can run: {last}"))
                .with_hint("install deepmarket there (with deepmarket-trainer beside it), or say where it is: --program PATH"),
            _ => Failure::environment(format!("the command on {host} ended ({status}): {last}")),
        }
    }
}

fn no_ssh(error: std::io::Error) -> Failure {
    Failure::environment(format!("the program `ssh` can't be run: {error}")).with_hint("install the OpenSSH client")
}

/// A word for the shell over there.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A command that runs over there until its standard input ends.
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    words: JoinHandle<VecDeque<String>>,
    /// Until it was heard.
    answer: Option<oneshot::Receiver<serde_json::Value>>,
}

impl Session {
    /// Starts it, says one line to it, and shows what it writes to standard error. Its first JSON value is its answer.
    ///
    /// `ssh` runs in its own process group: Ctrl-C reaches this process only, which then ends the other side in good order.
    pub async fn start(connection: &Connection, command: &[&str], line: &str, output: Output) -> Outcome<Session> {
        let mut ssh = Command::new("ssh");
        ssh.args(connection.arguments(command)).process_group(0).kill_on_drop(true);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(no_ssh)?;
        let mut input = child.stdin.take().ok_or_else(|| Failure::bug("standard input was asked for"))?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::bug("standard output was asked for"))?;
        let stderr = child.stderr.take().ok_or_else(|| Failure::bug("standard error was asked for"))?;
        let host = connection.target.host.clone();
        let words = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            let mut kept = VecDeque::new();
            while let Ok(Some(line)) = lines.next_line().await {
                output.say(format!("{host}: {line}"));
                kept.push_back(line);
                if kept.len() > KEPT_LINES {
                    kept.pop_front();
                }
            }
            kept
        });
        let (sender, answer) = oneshot::channel();
        tokio::spawn(answers::hear(stdout, MAX_ANSWER, sender));
        // An `ssh` that ended already says why on standard error.
        let _ = input.write_all(format!("{line}\n").as_bytes()).await;
        let _ = input.flush().await;
        Ok(Session { child, input: Some(input), words, answer: Some(answer) })
    }

    /// What the other side answered; none where it ended without, or where it was heard before.
    pub async fn answer(&mut self) -> Option<serde_json::Value> {
        let value = self.answer.as_mut()?.await.ok();
        self.answer = None;
        value
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> Outcome<ExitStatus> {
        self.child.wait().await.map_err(io("waiting for ssh"))
    }

    /// Ends the other side by ending its standard input; ends `ssh` where that isn't enough.
    pub async fn end(&mut self) {
        drop(self.input.take());
        if timeout(GRACE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// The last lines of standard error; only after its end.
    pub async fn last_words(self) -> String {
        let lines = timeout(Duration::from_secs(1), self.words).await;
        lines.ok().and_then(Result::ok).map(|lines| Vec::from(lines).join("\n")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn connection(target: &str) -> Connection {
        Connection { target: target.parse().unwrap(), identity: None, known_hosts: None }
    }

    #[test]
    fn targets_are_read_and_can_not_be_options() {
        let read = |text: &str| text.parse::<Target>().map(|t| (t.user.unwrap_or_default(), t.host, t.port));
        let of = |user: &str, host: &str, port| Ok((user.to_owned(), host.to_owned(), port));
        assert_eq!(read("alice@lab7.pdx.edu"), of("alice", "lab7.pdx.edu", None));
        assert_eq!(read("alice@lab7:2222"), of("alice", "lab7", Some(2222)));
        assert_eq!(read("lab7"), of("", "lab7", None));
        assert_eq!(read("alice@[::1]:22"), of("alice", "::1", Some(22)));
        assert_eq!((read("[fe80::1]"), read("fe80::1")), (of("", "fe80::1", None), of("", "fe80::1", None)));
        for bad in [
            "",
            "-oProxyCommand=x",
            "a@-oProxyCommand=x",
            "a b@c",
            "@host",
            "a@",
            "a@h:0",
            "a@h:x",
            "a@h:70000",
            "a@h;rm",
            "a@[::1]22",
            "$(x)@h",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("USER@HOST"), "{bad}: {error}");
        }
    }

    #[test]
    fn hosts_must_be_pinned_and_no_question_is_asked() {
        let mut lab = connection("alice@lab7:2222");
        lab.known_hosts = Some("/x/known".into());
        lab.identity = Some("/x/key".into());
        let arguments = lab.arguments(&["/opt/my tools/deepmarket", "it's"]);
        for pair in [
            ["-o", "StrictHostKeyChecking=yes"],
            ["-o", "BatchMode=yes"],
            ["-o", "UserKnownHostsFile=/x/known"],
            ["-i", "/x/key"],
            ["-p", "2222"],
            ["-l", "alice"],
            ["--", "lab7"],
        ] {
            assert!(arguments.windows(2).any(|two| two == pair), "{pair:?} is not in {arguments:?}");
        }
        assert_eq!(arguments.last().unwrap(), r"'/opt/my tools/deepmarket' 'it'\''s'");
        assert_eq!(
            (quoted(""), quoted("--gateway=http://h:1,http://h:2"), quoted("$(x)")),
            ("''".into(), "--gateway=http://h:1,http://h:2".into(), "'$(x)'".into())
        );
    }

    #[test]
    fn every_end_is_explained_with_what_to_do() {
        let lab = connection("alice@lab7:2222");
        let explained = |code: i32, words: &str| {
            let failure = lab.explain(ExitStatus::from_raw(code << 8), words, "deepmarket");
            format!("{failure} / {}", failure.hint())
        };
        for (code, words, says) in [
            (
                255,
                "No ED25519 host key is known for [lab7]:2222 and you have requested strict checking.\r\nHost key verification failed.\r\n",
                "ssh-keyscan -p 2222 lab7 >> ~/.ssh/known_hosts",
            ),
            (
                255,
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R '[lab7]:2222'",
            ),
            (255, "alice@lab7: Permission denied (publickey).", "ssh-copy-id -p 2222 alice@lab7"),
            (255, "ssh: connect to host lab7 port 2222: Connection refused", "no connection to lab7: ssh: connect"),
            (127, "bash: deepmarket: command not found", "--program PATH"),
            (2, "", "it said nothing"),
        ] {
            let text = explained(code, words);
            assert!(text.contains(says), "{text}");
        }
    }
}
