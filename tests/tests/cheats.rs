//! A handful of the zoo's animals on a real market: four validators and nine machines, all processes of their own.
//!
//! This is a test without the usual harness: the program starts itself again as the lying trainer of an honest agent, and as an agent
//! that lies in audits. Everything else is what is shipped.

use std::{
    fs,
    io::{PipeReader, PipeWriter},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_tests::{Market, my_turn, program, wait_for, without_section};
use deepmarket_worker::{
    Means, TrainerProgram, WorkerConfig,
    testing::{Cheat, Lie, Real, lying_trainer},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);

/// Every window is audited, and everything goes fast.
const AUDIT: &str = "
[params.audit]
floor_permille = 1000
first_windows = 3
vest_ms = 12_000
answer_ms = 25_000
wait_ms = 300_000
audit_ms = 100
pay_permille = 1200
fee_permille = 80
canary_permille = 0
max_open = 2
strikes = 3
";

/// Its rounds take some milliseconds; alone on its machine.
const JOB: &str = r#"
kind = "train"
[workers]
min = 1
max = 1
ram_mib = 512
[budget]
max_credits = 2
[data]
manifest = "digits"
validate = "test"
[model]
input = [1, 28, 28]
layers = [ { flatten = {} }, { linear = { out = 32 } }, { relu = {} }, { linear = { out = 10 } } ]
[training]
loss = "cross_entropy"
optimizer = { adam = { lr = 1e-3 } }
batch = 32
epochs = 40
mode = { local = { steps = 8 } }
"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["lying-trainer", lie, ..] => {
            let serve = |from: PipeReader, to: PipeWriter| {
                deepmarket_trainer::serve(&mut { from }, &mut { to }).expect("the pipes stay open")
            };
            lying_trainer(&lie.parse::<Lie>().expect("a lie"), || Real::in_a_thread(serve)).expect("the pipes stay open");
        }
        ["lying-agent", cheat, trainer, folder, gateways] => {
            lying_agent(cheat.parse().expect("a cheat"), Path::new(trainer), Path::new(folder), gateways);
        }
        _ => {
            const NAME: &str = "cheaters_lose_their_pay_and_honest_people_do_not";
            if words.contains(&"--list") {
                return println!("{NAME}: test");
            }
            if words.iter().find(|word| !word.starts_with('-')).is_none_or(|filter| NAME.contains(filter)) {
                let began = Instant::now();
                cheaters_lose_their_pay_and_honest_people_do_not();
                println!("test {NAME} ... ok ({:.1} s)", began.elapsed().as_secs_f32());
            }
        }
    }
}

/// Serves a machine that was offered before.
fn lying_agent(cheat: Cheat, trainer: &Path, folder: &Path, gateways: &str) {
    tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing_subscriber::filter::LevelFilter::INFO).init();
    let key = deepmarket_wallet::keys::read(&folder.join("key.json")).expect("the machine was registered");
    let client = Client::new(gateways.split(',').map(str::to_owned).collect()).expect("gateways");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let chain = client.status().await.expect("the market is up").chain;
        // A lying trainer is this very program: more than what a trainer may run.
        let trainer = TrainerProgram { path: trainer.to_owned(), means: Means::WatchedOnly };
        let config = WorkerConfig { home: folder.to_owned(), chain, key, client, listen: vec![], announce: vec![], trainer };
        deepmarket_worker::testing::run(config, cheat, CancellationToken::new()).await.expect("it can begin");
    });
}

/// A process that doesn't outlive the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> Running {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).spawn();
        Running(child.unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The market, and who lends on it.
struct Zoo {
    market: Market,
    agents: Vec<Running>,
}

impl Zoo {
    fn open() -> Zoo {
        let local = deepmarket_genesis::LOCAL.replace("receipt_ms = 10_000", "receipt_ms = 2_000");
        assert!(local.contains("receipt_ms = 2_000"), "the local market's receipts come every 10 s");
        let market = Market::up_with(0, Some(&(without_section(&local, "[params.audit]") + AUDIT)));
        market.cli(&["account", "open", "--name", "bob", "--identity", "bob@pdx.example"]);
        market.cli(&["--account", "bob", "data", "generate", "digits", "--name", "digits", "--samples", "2500"]);
        Zoo { market, agents: Vec::new() }
    }

    /// Starts `lend start` in the name of an account of its own.
    fn lend(&mut self, name: &str, cores: u32) {
        self.market.cli(&["account", "open", "--name", name, "--identity", &format!("{name}@pdx.example")]);
        let (cores, ram) = (cores.to_string(), (1_024 * cores).to_string());
        let mut command = self.market.command(&["--account", name, "lend", "start", "--machine", name]);
        command.args(["--cores", &cores, "--ram-mib", &ram]);
        self.agents.push(Running::start(&mut command, &self.log(name)));
    }

    /// The same for several, and as soon as they are offered agents that cheat take their places: with the real trainer, or with one
    /// that lies.
    fn lend_to_cheats(&mut self, cheats: &[(&str, &str, Option<&str>)]) {
        let honest = self.agents.len();
        cheats.iter().for_each(|(name, ..)| self.lend(name, 1));
        cheats.iter().for_each(|(name, ..)| self.wait_until_idle(name));
        // Killed, they withdraw nothing.
        self.agents.truncate(honest);
        for (name, cheat, lie) in cheats {
            let trainer = lie.map_or_else(|| program("deepmarket-trainer"), |lie| liar_program(self.market.home(), lie));
            let folder = self.market.home().join("machines").join(name);
            let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
            command.args(["lying-agent", cheat]).args([trainer, folder]).arg(self.market.gateways().join(","));
            self.agents.push(Running::start(&mut command, &self.log(name)));
        }
        cheats.iter().for_each(|(name, ..)| self.wait_until_idle(name));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.market.home().join(format!("{name}.log"))
    }

    fn machine(&self, name: &str) -> Option<Value> {
        let machines = self.market.cli(&["lend", "status", "--all"]);
        machines.as_array()?.iter().find(|machine| machine["config"]["name"] == name).cloned()
    }

    fn wait_until_idle(&self, name: &str) {
        let log = self.log(name);
        wait_for(&format!("{name}'s machine to be idle ({})", log.display()), MINUTE, || {
            self.machine(name).filter(|machine| machine["state"] == "idle")
        });
    }

    /// Submits a job.
    fn submit(&self, name: &str) -> String {
        let file = self.market.home().join(format!("job-{name}.toml"));
        fs::write(&file, format!("name = \"job-{name}\"\n{JOB}")).expect("a file in a temporary folder");
        let submitted = self.market.cli(&["--account", "bob", "job", "submit", file.to_str().expect("UTF-8")]);
        submitted["job"].as_str().expect("a job's id").to_owned()
    }

    fn is_closed(&self, job: &str) -> bool {
        let state = self.market.cli(&["job", "show", job])["job"]["state"]["state"].clone();
        ["finished", "cancelled", "panic"].contains(&state.as_str().expect("a state"))
    }

    /// Gives each of these machines, the only ones that are there, a job. They take no other one: neither work nor audits.
    fn occupy(&self, names: &[&str]) -> Vec<String> {
        let jobs: Vec<String> = names.iter().map(|name| self.submit(name)).collect();
        let lease_of = |name: &str| {
            let machine = self.machine(name)?["id"].clone();
            let is_its = |job: &&String| self.leases(job).iter().any(|lease| lease["machine"] == machine);
            jobs.iter().find(is_its).cloned()
        };
        let each = names.iter().map(|name| wait_for(&format!("{name} to work"), MINUTE, || lease_of(name)));
        let each: Vec<String> = each.collect();
        for name in names {
            self.market.cli(&["--account", name, "lend", "stop", "--machine", name, "--after-lease"]);
        }
        each
    }

    fn leases(&self, job: &str) -> Vec<Value> {
        self.market.cli(&["job", "show", job])["job"]["leases"].as_array().expect("a list of leases").clone()
    }

    fn audits(&self, job: &str) -> Vec<Value> {
        self.market.get(0, &format!("/v1/jobs/{job}/audits")).and_then(|audits| audits.as_array().cloned()).unwrap_or_default()
    }

    /// Waits until an audit of somebody's work ended in a way.
    fn wait_for_verdict(&self, name: &str, job: &str, verdict: &str) -> Value {
        let machine = self.machine(name).expect("it was offered")["id"].clone();
        wait_for(&format!("{name}'s work to be found {verdict}"), 2 * MINUTE, || {
            let audits = self.audits(job).into_iter();
            let mut of_machine = audits.filter(|audit| audit["machine"] == machine);
            of_machine.find(|audit| audit["state"]["detail"] == verdict)
        })
    }

    fn account(&self, name: &str) -> Value {
        self.market.cli(&["account", "show", name])
    }

    fn lease(&self, name: &str, job: &str) -> Value {
        let machine = self.machine(name).expect("it was offered")["id"].clone();
        self.leases(job).into_iter().find(|lease| lease["machine"] == machine).expect("it worked for the job")
    }
}

/// A program that an agent takes for its trainer.
fn liar_program(folder: &Path, lie: &str) -> PathBuf {
    let path = folder.join(format!("trainer-{lie}"));
    let own = std::env::current_exe().expect("a test has a path");
    fs::write(&path, format!("#!/bin/sh\nexec '{}' lying-trainer {lie} \"$@\"\n", own.display())).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn cheaters_lose_their_pay_and_honest_people_do_not() {
    let _turn = my_turn();
    let mut zoo = Zoo::open();

    zoo.lend_to_cheats(&[
        ("idle", "honest", Some("idle")),
        ("flips", "honest", Some("flip-signs")),
        ("silent", "silent-at-audit", None),
        ("twofold", "contradictory", None),
    ]);
    let jobs = zoo.occupy(&["idle", "flips", "silent", "twofold"]);
    let [of_idle, of_flips, of_silent, of_twofold] = <[String; 4]>::try_from(jobs).expect("one each");

    // Honest machines come, which have a core to work and a core to audit, and with them somebody who lies as an auditor.
    const HONEST: [&str; 3] = ["ann", "ben", "cat"];
    HONEST.iter().for_each(|name| zoo.lend(name, 2));
    zoo.lend_to_cheats(&[("liar", "lying-auditor", None)]);
    HONEST.iter().for_each(|name| zoo.wait_until_idle(name));
    let of_honest = zoo.submit("honest");

    for (name, job) in [("idle", &of_idle), ("flips", &of_flips)] {
        let audit = zoo.wait_for_verdict(name, job, "false");
        assert!(audit["auditors"].as_array().expect("auditors").len() >= 3, "two more than the first agreed: {audit}");
        let lease = zoo.lease(name, job);
        assert!(lease["forfeited"].as_u64() > Some(0), "{name} lost what was held: {lease}");
        assert!(zoo.account(name)["strikes"].as_u64() > Some(0), "{name}: {}", zoo.account(name));
    }
    zoo.wait_for_verdict("silent", &of_silent, "silent");
    assert!(zoo.lease("silent", &of_silent)["forfeited"].as_u64() > Some(0), "what nobody can check isn't paid");
    // The other receipt was refused each time, and what it was sent for was looked at.
    zoo.wait_for_verdict("twofold", &of_twofold, "passed");
    let words = fs::read_to_string(zoo.log("twofold")).expect("an agent's log");
    assert!(words.contains("a contradictory receipt was refused"), "a second receipt of one number is refused:\n{words}");

    // Somebody's honest work falls into the liar's hands, sooner or later.
    let liar = zoo.machine("liar").expect("it was offered")["id"].clone();
    let mut jobs = vec![of_honest];
    let lie = wait_for("the liar to audit", 3 * MINUTE, || {
        let audits = zoo.market.get(0, "/v1/audits?state=all")?.as_array()?.clone();
        let is_lie = |audit: &&Value| {
            let auditors = audit["auditors"].as_array().into_iter().flatten();
            auditors.into_iter().any(|auditor| auditor["machine"] == liar && auditor["is_false"] == true)
        };
        let found = audits.iter().find(is_lie).cloned();
        if found.is_none() && zoo.is_closed(jobs.last().expect("one was submitted")) {
            jobs.push(zoo.submit("honest"));
        }
        found
    });
    assert_eq!(lie["state"]["detail"], "passed", "{lie}");
    assert!(zoo.account("liar")["strikes"].as_u64() > Some(0));

    // What honest people did is paid in the end, and none of it is lost.
    wait_for("honest work to vest", 2 * MINUTE, || {
        let is_vested = |name: &&str| zoo.account(name)["held"] == 0;
        (jobs.iter().all(|job| zoo.is_closed(job)) && HONEST.iter().all(is_vested)).then_some(())
    });
    assert!(HONEST.iter().any(|name| zoo.account(name)["earned"].as_u64() > Some(0)), "honest work and audits are paid");
    for name in HONEST {
        assert_eq!(zoo.account(name)["strikes"], 0, "{name} is honest");
        let machine = zoo.machine(name).expect("it was offered")["id"].clone();
        for job in &jobs {
            for lease in zoo.leases(job).iter().filter(|lease| lease["machine"] == machine) {
                assert_eq!(lease["forfeited"], 0, "{name} is honest: {lease}");
            }
        }
    }
    assert_eq!(zoo.market.cli(&["chain", "status"])["ledger"]["conserved"], true);
}
