//! A market for measurements of training: machines with a share of the processor each, reached over a line of a stated speed, and
//! jobs on a part of MNIST.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use deepmarket_tests::{
    Market, free_port, is_alive, mnist, program,
    proxy::{Line, Proxy},
    signal, wait_for,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::quota::Quota;

/// How long machines may take to be measured and offered, and a job to end.
const OFFERED_WITHIN: Duration = Duration::from_secs(120);
const ENDED_WITHIN: Duration = Duration::from_secs(240);
/// Samples of the validation split.
const VALIDATION: usize = 500;

/// Who submits the jobs.
const BORROWER: &str = "borrower";

/// A market with a dataset and machines of its own.
pub struct Bench {
    machines: Vec<Machine>,
    market: Market,
    jobs: usize,
}

/// A lent machine.
pub struct Machine {
    child: Child,
    log: PathBuf,
    pub quota: Quota,
    pub proxy: Proxy,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if is_alive(self.child.id()) {
            signal(self.child.id(), Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(15);
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if Instant::now() > end {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a job did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// From the moment at which its machines were chosen to its end, by the chain's clock.
    pub wall_s: f64,
    /// What all its rounds take at the pace of those after the first report: without fetching data and starting.
    pub training_s: f64,
    /// Accuracy after the last epoch, in percent.
    pub accuracy: f64,
    /// Bytes that one worker sent in a round, in the mean.
    pub sent_per_round: f64,
}

impl Ran {
    pub fn json(&self) -> Value {
        json!({
            "wall_s": self.wall_s,
            "training_s": self.training_s,
            "accuracy_percent": self.accuracy,
            "bytes_sent_per_round_and_worker": self.sent_per_round,
        })
    }
}

impl Bench {
    /// Starts a market with one machine for each share of the processor (in cores), and a dataset of some of MNIST's samples. All
    /// machines are reached through proxies, which are as fast as loopback at first.
    pub fn up(cores: &[f64], samples: usize) -> Result<Bench, String> {
        // Before anything is started: may we?
        let quotas: Vec<Quota> =
            cores.iter().enumerate().map(|(index, cores)| Quota::new(&index.to_string(), *cores)).collect::<Result<_, _>>()?;
        let market = Market::up(0);
        open_account(&market, BORROWER);
        let folder = market.home().join("digits");
        subset(&folder, samples);
        market.cli(&["--account", BORROWER, "data", "add", &folder.display().to_string(), "--name", "digits"]);
        let machines = quotas.into_iter().enumerate().map(|(index, quota)| Machine::lend(&market, index, quota)).collect();
        let mut bench = Bench { machines, market, jobs: 0 };
        wait_for("the machines to be offered", OFFERED_WITHIN, || {
            if let Some(words) = bench.machines.iter_mut().find_map(Machine::last_words) {
                return Some(Err(words));
            }
            let machines = bench.market.get(0, "/v1/machines")?;
            let idle = machines.as_array()?.iter().filter(|machine| machine["state"] == "idle").count();
            (idle == bench.machines.len()).then_some(Ok(()))
        })?;
        Ok(bench)
    }

    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The line through which all machines are reached.
    pub fn set_line(&self, line: Line) {
        self.machines.iter().for_each(|machine| machine.proxy.set_line(line));
    }

    /// Trains the demo's CNN. `training` are lines of the job's `[training]` table: batch, epochs, mode, updates.
    pub fn train(&mut self, workers: usize, training: &str) -> Result<Ran, String> {
        self.jobs += 1;
        let text = format!(
            r#"
name = "bench"
kind = "train"
workers = {{ min = {workers}, max = {workers}, cores = 1, ram_mib = 512 }}
budget = {{ max_credits = 3 }}
data = {{ manifest = "digits", train = "train", validate = "test" }}

[model]
input = [1, 28, 28]
layers = [
  {{ conv2d = {{ out = 16, kernel = 3, padding = 1 }} }}, {{ relu = {{}} }}, {{ max_pool2d = {{ kernel = 2 }} }},
  {{ conv2d = {{ out = 32, kernel = 3, padding = 1 }} }}, {{ relu = {{}} }}, {{ max_pool2d = {{ kernel = 2 }} }},
  {{ flatten = {{}} }}, {{ linear = {{ out = 10 }} }},
]

[training]
loss = "cross_entropy"
optimizer = {{ adam = {{ lr = 2e-3 }} }}
seed = 7
{training}
"#
        );
        let file = self.market.home().join(format!("job-{}.toml", self.jobs));
        fs::write(&file, text).map_err(|e| e.to_string())?;
        let submitted = self.market.cli(&["--account", BORROWER, "job", "submit", &file.display().to_string()]);
        let id = submitted["job"].as_str().ok_or("submitting tells no id")?.to_owned();
        let view = self.market.wait_until_closed(&id, ENDED_WITHIN);
        if view["state"]["state"] != "finished" {
            return Err(format!("{id} ended: {}", view["status"].as_str().unwrap_or("?")));
        }
        let progress = self.market.get(0, &format!("/v1/jobs/{id}/progress")).ok_or("no progress is told")?;
        ran(&view, progress.as_array().ok_or("progress is no list")?)
    }
}

impl Machine {
    fn lend(market: &Market, index: usize, quota: Quota) -> Machine {
        // An account for each: they are offered at the same time.
        let name = format!("machine-{index}");
        open_account(market, &name);
        let port = free_port();
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)), Line::FAST).expect("a proxy on loopback");
        let address = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}");
        let path = market.home().join(format!("{name}.log"));
        let log = fs::File::create(&path).expect("a log file");
        let child = quota
            .command(&program("deepmarket"))
            .args(["--json", "--account", &name, "--home"])
            .arg(market.home())
            .args(["lend", "start", "--machine", &name, "--cores", "1", "--ram-mib", "512"])
            .args(["--listen", &address(port), "--public-address", &address(proxy.address().port())])
            .env_remove("DEEPMARKET_GATEWAY")
            .env_remove("DEEPMARKET_HOME")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("deepmarket starts");
        Machine { child, log: path, quota, proxy }
    }

    /// What it said before it ended, if it ended.
    fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("a machine ended ({status}): {}", fs::read_to_string(&self.log).unwrap_or_default()))
    }
}

fn open_account(market: &Market, name: &str) {
    market.cli(&["account", "open", "--name", name, "--identity", &format!("{name}@pdx.example")]);
}

/// The first samples of MNIST, as files of the same kind.
fn subset(folder: &Path, samples: usize) {
    fs::create_dir(folder).expect("a folder in a temporary one");
    for (part, samples) in [("train", samples), ("t10k", VALIDATION)] {
        for (name, header, size) in [("images-idx3-ubyte", 16, 784), ("labels-idx1-ubyte", 8, 1)] {
            let name = format!("{part}-{name}");
            let mut bytes = fs::read(mnist().join(&name)).expect("MNIST's files are there");
            bytes.truncate(header + samples * size);
            bytes[4..8].copy_from_slice(&u32::try_from(samples).expect("a part of MNIST").to_be_bytes());
            fs::write(folder.join(name), bytes).expect("a file in a temporary folder");
        }
    }
}

/// Reads a job's measures from what the chain and its workers tell.
fn ran(view: &Value, progress: &[Value]) -> Result<Ran, String> {
    let time = |field: &str| view[field].as_f64().ok_or(format!("the job has no {field}"));
    let of_kind = |kind: &'static str| progress.iter().filter(move |entry| entry["kind"] == kind);
    let number = |entry: &Value, field: &str| entry[field].as_f64().unwrap_or(f64::NAN);
    let rounds: Vec<&Value> = of_kind("round").filter(|entry| entry["rank"] == 0).collect();
    let (first, last) = rounds.first().zip(rounds.last()).ok_or("no rounds are told")?;
    let pace = (number(last, "round") - number(first, "round")) / (number(last, "time") - number(first, "time")) * 1e3;
    let done: Vec<&Value> = of_kind("done").collect();
    let all_rounds = number(last, "rounds");
    let sent: f64 = done.iter().map(|entry| number(entry, "sent_bytes")).sum();
    let accuracy = of_kind("epoch").next_back().map_or(f64::NAN, |e| 100.0 * number(e, "correct") / number(e, "samples"));
    Ok(Ran {
        wall_s: (time("ended")? - time("started")?) / 1e3,
        training_s: all_rounds / pace,
        accuracy,
        sent_per_round: sent / all_rounds / done.len().max(1) as f64,
    })
}
