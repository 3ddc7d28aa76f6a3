//! A real market for end-to-end tests and benchmarks: the built programs, as processes, in a temporary folder.
//!
//! Nothing here is a stand-in: [`Market::up`] runs `deepmarket up`, [`Market::cli`] runs `deepmarket` as a person would, and
//! parts are killed with SIGKILL. Waiting is always for an event, with a deadline. Nothing is left behind: `up` ends with
//! its market when its standard input does or when it is told to.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Tests that run markets take turns: the machine may have two cores.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn.
pub fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A built program of this workspace, beside the test's own program.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.ancestors().skip(1).find(|folder| folder.join(name).is_file());
    folder
        .unwrap_or_else(|| panic!("{name} is not built: run `make build` first (`cargo test --workspace` builds it too)"))
        .join(name)
}

/// The checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/market lies in the checkout").to_owned()
}

/// A genesis document without one of its sections.
pub fn without_section(text: &str, section: &str) -> String {
    let mut is_in = false;
    let keep = text.lines().filter(|line| {
        if line.starts_with('[') {
            is_in = line.trim() == section;
        }
        !is_in
    });
    keep.map(|line| format!("{line}\n")).collect()
}

/// MNIST's files, which `make mnist` brings.
pub fn mnist() -> PathBuf {
    let folder = checkout().join("data/mnist");
    assert!(folder.is_dir(), "MNIST is missing: run `make mnist` first (make test does)");
    folder
}

/// Runs a program and gives what it printed.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// Reads the JSON that a command printed; shows what it said where there is none.
pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("no JSON ({e}):\n{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

/// Calls `ready` until it gives a value; panics after the deadline, naming what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    listener.and_then(|listener| listener.local_addr()).expect("loopback has free ports").port()
}

/// Is there a process of this id?
pub fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

/// A market that `deepmarket up` runs.
pub struct Market {
    home: TempDir,
    up: Child,
    /// Validators that a test started again itself.
    restarted: Vec<Child>,
}

impl Market {
    /// Starts four validators and some lent machines. Validators that end are left down.
    pub fn up(machines: u32) -> Market {
        Market::up_with(machines, None)
    }

    /// The same with the rules of a genesis document (TOML).
    pub fn up_with(machines: u32, genesis: Option<&str>) -> Market {
        Market::up_logging(machines, genesis, None)
    }

    /// The same; all parts log what a filter lets through (as `RUST_LOG` writes it) into the `output.log` of their folders.
    pub fn up_logging(machines: u32, genesis: Option<&str>, log_filter: Option<&str>) -> Market {
        let home = tempfile::tempdir().expect("a temporary folder");
        let rules = genesis.map(|text| {
            let path = home.path().join("rules.toml");
            std::fs::write(&path, text).expect("a file in a temporary folder");
            ["--genesis".into(), path.into_os_string()]
        });
        let log = std::fs::File::create(home.path().join("up.log")).expect("a log file");
        let up = Command::new(program("deepmarket"))
            .args(["--json", "--home"])
            .arg(home.path())
            .args(["up", "--no-restart", "--machines", &machines.to_string()])
            .args(rules.into_iter().flatten())
            .envs(log_filter.map(|filter| ("RUST_LOG", filter)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("deepmarket starts");
        let mut market = Market { home, up, restarted: Vec::new() };
        wait_for("the market to come up", Duration::from_secs(120), || {
            let log = std::fs::read_to_string(market.home.path().join("up.log")).unwrap_or_default();
            assert!(market.up.try_wait().expect("a child").is_none(), "the market ended:\n{log}");
            log.contains("\"gateways\"").then_some(())
        });
        market
    }

    /// The home folder: accounts, datasets, the market's own folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `market.json`.
    pub fn file(&self) -> Value {
        let text =
            std::fs::read_to_string(self.home.path().join("market/market.json")).expect("a market that is up has the file");
        serde_json::from_str(&text).expect("market.json is JSON")
    }

    /// The gateways' addresses.
    pub fn gateways(&self) -> Vec<String> {
        serde_json::from_value(self.file()["gateways"].clone()).expect("a list of addresses")
    }

    /// The process of a part, for example `validator-2`.
    pub fn pid(&self, part: &str) -> u32 {
        let file = self.file();
        let parts = file["parts"].as_array().expect("a list of parts");
        let entry = parts.iter().find(|p| p["name"] == part).unwrap_or_else(|| panic!("there is no part {part}"));
        u32::try_from(entry["pid"].as_u64().expect("a process id")).expect("a process id")
    }

    /// The processes of all parts and of `up` itself.
    pub fn pids(&self) -> Vec<u32> {
        let file = self.file();
        let parts = file["parts"].as_array().expect("a list of parts").iter();
        parts.filter_map(|p| p["pid"].as_u64()).map(|pid| pid as u32).chain([self.up.id()]).collect()
    }

    /// Kills a part with SIGKILL.
    pub fn kill(&self, part: &str) {
        signal(self.pid(part), Signal::KILL);
    }

    /// Starts a killed validator again.
    pub fn restart_validator(&mut self, index: usize) {
        let dir = self.home.path().join(format!("market/validator-{index}"));
        let log = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("output.log")).expect("a log file");
        let child = Command::new(program("deepmarket"))
            .args(["validator", "run", "--with-parent", "--dir"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("deepmarket starts");
        self.restarted.push(child);
    }

    /// A command against this market.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("deepmarket"));
        command.arg("--home").arg(self.home.path()).args(arguments).current_dir(checkout());
        command.env_remove("DEEPMARKET_GATEWAY").env_remove("DEEPMARKET_HOME").env_remove("DEEPMARKET_ACCOUNT");
        command
    }

    /// Runs a command that must succeed; gives its JSON.
    pub fn cli(&self, arguments: &[&str]) -> Value {
        let output = run(self.command(arguments).arg("--json"));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "deepmarket {arguments:?} failed:\n{words}");
        json(&output)
    }

    /// Runs a command that must fail with an exit status; gives what it wrote to standard error.
    pub fn refused(&self, status: i32, arguments: &[&str]) -> String {
        let output = run(&mut self.command(arguments));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "deepmarket {arguments:?}:\n{words}");
        assert!(!words.contains("panicked"), "deepmarket {arguments:?} panicked:\n{words}");
        words
    }

    /// `GET` from one gateway; `None` where it doesn't answer or refuses.
    pub fn get(&self, gateway: usize, path: &str) -> Option<Value> {
        let base = self.gateways().get(gateway)?.clone();
        http_get(&format!("{base}{path}"))
    }

    /// The height that a gateway holds; `None` where it doesn't answer.
    pub fn height(&self, gateway: usize) -> Option<u64> {
        self.get(gateway, "/v1/status")?["height"].as_u64()
    }

    /// Waits until a job is closed; gives it.
    pub fn wait_until_closed(&self, job: &str, deadline: Duration) -> Value {
        wait_for(&format!("{job} to end"), deadline, || {
            let view = self.cli(&["job", "show", job])["job"].clone();
            let state = view["state"]["state"].as_str().expect("a state").to_owned();
            ["finished", "cancelled", "panic"].contains(&state.as_str()).then_some(view)
        })
    }
}

/// A blocking `GET` of JSON over plain HTTP.
fn http_get(url: &str) -> Option<Value> {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    serde_json::from_str(body).ok()
}

impl Drop for Market {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(keep) = std::env::var("DEEPMARKET_TEST_KEEP")
        {
            let _ = Command::new("cp").arg("-r").arg(self.home.path()).arg(keep).status();
        }
        if is_alive(self.up.id()) {
            signal(self.up.id(), Signal::TERM);
        }
        for child in &mut self.restarted {
            drop(child.stdin.take());
        }
        let end = Instant::now() + Duration::from_secs(30);
        for child in self.restarted.iter_mut().chain([&mut self.up]) {
            while !matches!(child.try_wait(), Ok(Some(_))) {
                if Instant::now() > end {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
