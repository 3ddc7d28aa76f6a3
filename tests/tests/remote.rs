//! Remote machines join by a one-time code, typed over there or handed over by SSH to a real sshd on loopback.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use deepmarket_tests::{Market, is_alive, my_turn, program, run, signal, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

/// A market with an owner's account, and nothing lent.
fn market() -> Market {
    let market = Market::up(0);
    market.cli(&["account", "open", "--name", "owner", "--identity", "owner@pdx.example"]);
    market
}

/// A process that a test started; it doesn't outlive the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, words: &Path) -> Running {
        let log = fs::File::create(words).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        Running(child.unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Ctrl-C; gives its exit status.
    fn interrupt(&mut self) -> i32 {
        signal(self.0.id(), Signal::INT);
        wait_for("it to end after Ctrl-C", MINUTE, || self.0.try_wait().unwrap()).code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program on another machine: with a home of its own, without an account.
fn elsewhere(home: &Path, gateway: &str) -> Command {
    let mut command = Command::new(program("deepmarket"));
    command.arg("--home").arg(home).args(["--json", "--gateway", gateway]);
    command.env_remove("DEEPMARKET_GATEWAY").env_remove("DEEPMARKET_HOME").env_remove("DEEPMARKET_ACCOUNT");
    command
}

/// `lend join` as a person types it there.
fn join(home: &Path, gateway: &str, code: &str) -> Command {
    let mut command = elsewhere(home, gateway);
    command.args(["lend", "join", code, "--machine", "far"]);
    command
}

fn refused(command: &mut Command) -> String {
    let output = run(command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(!words.contains("panicked"), "{words}");
    words
}

/// The account's machine of a name, once it is in a state.
fn wait_for_machine(market: &Market, name: &str, state: &str) -> Value {
    wait_for(&format!("{name} to be {state}"), MINUTE, || {
        let machines = market.cli(&["lend", "status"]);
        machines.as_array().unwrap().iter().find(|m| m["config"]["name"] == name && m["state"] == state).cloned()
    })
}

#[test]
fn a_machine_joins_by_a_code_once_and_works_for_the_account_that_made_it() {
    let _turn = my_turn();
    let market = market();
    let gateway = market.gateways()[0].clone();
    let far = tempfile::tempdir().unwrap();

    // With an offer: the machine is lent as soon as it joins.
    let invited = market.cli(&["lend", "invite", "--cores", "1", "--ram-mib", "512", "--min-price", "0.1", "--hours", "all"]);
    let code = invited["code"].as_str().unwrap().to_owned();
    assert!(invited["command"].as_str().unwrap().contains(&format!("deepmarket lend join {code} --gateway http://")));
    let typed = code.to_lowercase().replace('-', " ");
    let mut serving = Running::start(&mut join(far.path(), &gateway, &typed), &far.path().join("words"));
    let machine = wait_for_machine(&market, "far", "idle");
    assert_eq!(machine["offer"]["resources"]["ram_mib"], 512);
    assert_eq!(machine["offer"]["minimum"]["core_hour"], 100_000);
    let owner = market.cli(&["account", "show"])["id"].clone();
    assert_eq!(machine["owner"], owner);

    // Used up: for another machine it is nothing any more.
    let other = tempfile::tempdir().unwrap();
    let words = refused(&mut join(other.path(), &gateway, &code));
    assert!(words.contains("2043") && words.contains("used already") && words.contains("lend invite"), "{words}");

    // Ctrl-C and the same command again: the machine that joined serves on.
    assert_eq!(serving.interrupt(), 0);
    let mut serving = Running::start(&mut join(far.path(), &gateway, &code), &far.path().join("words"));
    wait_for_machine(&market, "far", "idle");
    // Its owner ends the offer from afar, by the machine's name.
    market.cli(&["lend", "stop", "--machine", "far"]);
    wait_for_machine(&market, "far", "withdrawn");
    assert_eq!(serving.interrupt(), 0);

    // Without an offer: it waits until its owner says what is offered.
    let invited = market.cli(&["lend", "invite"]);
    assert_eq!(invited["offer"], Value::Null);
    let code = invited["code"].as_str().unwrap();
    let mut serving = Running::start(&mut join(other.path(), &gateway, code), &other.path().join("words"));
    let joined = wait_for("the second machine to join", MINUTE, || {
        let machines = market.cli(&["lend", "status"]);
        machines.as_array().unwrap().iter().find(|m| m["id"] != machine["id"]).cloned()
    });
    assert_eq!((&joined["state"], &joined["why"]["reason"]), (&"withdrawn".into(), &"not_offered".into()));
    let id = joined["id"].as_str().unwrap();
    market.cli(&["lend", "change", "--machine", id, "--cores", "100%"]);
    wait_for("the second machine to take work", MINUTE, || {
        let view = market.cli(&["lend", "status", "--machine", id])[0].clone();
        (view["state"] == "idle").then_some(())
    });
    assert_eq!(serving.interrupt(), 0);

    // An offer that the machine can't hold is refused over there, and the code stays good.
    let invited = market.cli(&["lend", "invite", "--cores", "4096"]);
    let code = invited["code"].as_str().unwrap();
    for _ in 0..2 {
        let words = refused(&mut join(far.path(), &gateway, code));
        assert!(words.contains("4096 cores") && words.contains("offers less"), "{words}");
    }
}

/// A real sshd on loopback, with keys and folders of its own.
struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    daemon: Child,
    user: String,
}

impl Sshd {
    fn start() -> Sshd {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "client", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            let made = run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(path(key)));
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        fs::copy(path("client.pub"), path("authorized_keys")).unwrap();
        fs::create_dir(path("home")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder_name = folder.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder_name}/host\nAuthorizedKeysFile {folder_name}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             SetEnv DEEPMARKET_HOME={folder_name}/home\n"
        );
        fs::write(path("config"), config).unwrap();
        // As root, sshd wants an empty folder to lock its network half into.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
            fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)).unwrap();
        }
        let log = fs::File::create(path("log")).unwrap();
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|p| Path::new(p).exists());
        let program = program.expect("sshd is missing: run `scripts/packages.sh test` (Debian: openssh-server)");
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(path("config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = command.spawn().unwrap();
        let sshd = Sshd { port, daemon, user: user(), folder };
        wait_for("sshd to listen", MINUTE, || TcpStream::connect(("127.0.0.1", port)).ok());
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A file of known hosts with a key for this sshd.
    fn known_hosts(&self, name: &str, key: &str) -> PathBuf {
        let public = fs::read_to_string(self.path(key)).unwrap();
        let mut words = public.split_whitespace();
        let (kind, key) = (words.next().unwrap(), words.next().unwrap());
        let file = self.path(name);
        fs::write(&file, format!("[127.0.0.1]:{} {kind} {key}\n", self.port)).unwrap();
        file
    }

    /// `lend ssh` to this sshd, with the owner's account.
    fn lend(&self, market: &Market, known_hosts: &Path, identity: &str, more: &[&str]) -> Command {
        self.lend_with(market.command(&[]), known_hosts, identity, more)
    }

    fn lend_with(&self, mut command: Command, known_hosts: &Path, identity: &str, more: &[&str]) -> Command {
        let target = format!("{}@127.0.0.1:{}", self.user, self.port);
        command.args(["lend", "ssh", &target, "--machine", "far"]).args(more);
        command.arg("--known-hosts").arg(known_hosts).arg("--identity").arg(self.path(identity));
        command.env_remove("SSH_AUTH_SOCK");
        command
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sshd said:\n{}", self.log());
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn user() -> String {
    String::from_utf8(run(Command::new("id").arg("-un")).stdout).unwrap().trim().to_owned()
}

/// The processes that run `lend join` with a home below a folder, with their arguments.
fn joins(below: &Path) -> Vec<(u32, Vec<String>)> {
    let below = below.display().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let with_arguments = processes.filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        String::from_utf8_lossy(&environment).contains(&below).then_some(())?;
        Some((pid, text.split('\0').map(str::to_owned).collect::<Vec<_>>()))
    });
    with_arguments.filter(|(_, arguments)| arguments.windows(2).any(|two| two == ["lend", "join"])).collect()
}

#[test]
fn a_machine_is_lent_over_ssh_with_a_pinned_host_key_and_taken_back_with_ctrl_c() {
    let _turn = my_turn();
    let market = market();
    let sshd = Sshd::start();
    let far_program = program("deepmarket").display().to_string();
    let there = ["--program", &far_program];

    // A host whose key nobody pinned, and one that shows another key than the pinned one.
    let nobody = sshd.path("nobody");
    fs::write(&nobody, "").unwrap();
    let words = refused(&mut sshd.lend(&market, &nobody, "client", &there));
    assert!(words.contains("isn't pinned") && words.contains(&format!("ssh-keyscan -p {} 127.0.0.1 >>", sshd.port)), "{words}");
    let another = sshd.known_hosts("another", "stranger.pub");
    let words = refused(&mut sshd.lend(&market, &another, "client", &there));
    assert!(words.contains("another key than the one that is pinned"), "{words}");
    // A user whose key the machine doesn't know; a program that isn't there; a target that is an option.
    let known = sshd.known_hosts("known", "host.pub");
    let words = refused(&mut sshd.lend(&market, &known, "stranger", &there));
    assert!(words.contains("doesn't let you in") && words.contains("ssh-copy-id"), "{words}");
    let words = refused(&mut sshd.lend(&market, &known, "client", &["--program", "/nowhere/deepmarket"]));
    assert!(words.contains("/nowhere/deepmarket") && words.contains("--program PATH"), "{words}");
    let words = refused(&mut market.command(&["lend", "ssh", "--", "-oProxyCommand=true"]));
    assert!(words.contains("-oProxyCommand"), "{words}");
    assert_eq!(market.cli(&["lend", "status"]).as_array().unwrap().len(), 0, "nothing came of it");

    let log = sshd.path("lend-ssh");
    let more = ["--program", &far_program, "--cores", "1", "--ram-mib", "512", "--json"];
    let mut lending = Running::start(&mut sshd.lend(&market, &known, "client", &more), &log);
    let machine = wait_for("the machine to take work", MINUTE, || {
        let said = fs::read_to_string(&log).unwrap();
        assert!(lending.0.try_wait().unwrap().is_none(), "it ended:\n{said}\nsshd:\n{}", sshd.log());
        let machines = market.cli(&["lend", "status"]);
        machines.as_array().unwrap().iter().find(|m| m["state"] == "idle").cloned()
    });
    assert_eq!((&machine["config"]["name"], &machine["offer"]["resources"]["ram_mib"]), (&"far".into(), &512.into()));
    assert!(sshd.path("home/machines/far/key.json").exists(), "the machine made its own key over there");
    // The code is in nobody's arguments.
    let over_there = joins(sshd.folder.path());
    assert!(!over_there.is_empty());
    for (_, arguments) in &over_there {
        let after = arguments.iter().position(|word| word == "join").map(|at| &arguments[at + 1]);
        assert_eq!(after.map(String::as_str), Some("-"), "{arguments:?}");
    }

    assert_eq!(lending.interrupt(), 0, "{}", fs::read_to_string(&log).unwrap());
    wait_for("the other side to end", MINUTE, || over_there.iter().all(|(pid, _)| !is_alive(*pid)).then_some(()));
    let view = market.cli(&["lend", "status", "--machine", machine["id"].as_str().unwrap()])[0].clone();
    assert_eq!(view["state"], "withdrawn", "the owner's side ended the offer");

    // Killed instead of asked: the other side ends all the same.
    let mut lending = Running::start(&mut sshd.lend(&market, &known, "client", &more), &log);
    wait_for_machine(&market, "far", "idle");
    let over_there = joins(sshd.folder.path());
    assert!(!over_there.is_empty());
    lending.0.kill().unwrap();
    wait_for("the other side to end", MINUTE, || over_there.iter().all(|(pid, _)| !is_alive(*pid)).then_some(()));

    // With a code that was made elsewhere: no account is needed here, and the offer is left to who made the code.
    market.cli(&["lend", "stop", "--machine", "far"]);
    let invited = market.cli(&["lend", "invite", "--cores", "1", "--ram-mib", "256"]);
    let (home, report) = (tempfile::tempdir().unwrap(), sshd.path("report"));
    let command = elsewhere(home.path(), &market.gateways()[0]);
    let more = ["--program", &far_program, "--code", "-", "--with-parent"];
    let mut command = sshd.lend_with(command, &known, "client", &more);
    command.stdin(Stdio::piped()).stdout(fs::File::create(&report).unwrap()).stderr(fs::File::create(&log).unwrap());
    let mut lending = Running(command.spawn().unwrap());
    let mut input = lending.0.stdin.take().unwrap();
    writeln!(input, "{}", invited["code"].as_str().unwrap()).unwrap();
    let joined = wait_for("the machine to join with the code", MINUTE, || {
        let said = fs::read_to_string(&log).unwrap();
        assert!(lending.0.try_wait().unwrap().is_none(), "it ended:\n{said}\nsshd:\n{}", sshd.log());
        serde_json::from_str::<Value>(&fs::read_to_string(&report).unwrap()).ok()
    });
    assert_eq!((&joined["machine"], &joined["offer"]["resources"]["ram_mib"]), (&machine["id"], &256.into()));
    let machine = wait_for_machine(&market, "far", "idle");
    assert_eq!(machine["offer"], joined["offer"]);
    // Its parent is gone: it ends, and the other side with it.
    let over_there = joins(sshd.folder.path());
    drop(input);
    let status = wait_for("it to end with its parent", MINUTE, || lending.0.try_wait().unwrap());
    assert!(status.success(), "{}", fs::read_to_string(&log).unwrap());
    wait_for("the other side to end", MINUTE, || over_there.iter().all(|(pid, _)| !is_alive(*pid)).then_some(()));
    let view = market.cli(&["lend", "status", "--machine", "far"])[0].clone();
    assert_eq!(view["offer"], joined["offer"], "the offer stands: its owner's side ends it");
}
