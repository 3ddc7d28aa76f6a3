//! Nothing secret is in what programs print and keep: a real market at the most verbose log level, the usual things done with it,
//! and then a search for every secret that was in play, in all forms in which one might be written.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use deepmarket_tests::{Market, json, my_turn, program, run, signal, wait_for};
use deepmarket_types::{Hash, SecretKey};
use deepmarket_wallet::{
    invite_code::InviteCode,
    vault::{self, Vault},
};
use rustix::process::Signal;
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct-horse-battery";
const IDENTITY: &str = "alice.liddell@pdx.example";

/// All that was printed, by what it came from; results that are meant to show a secret are left out.
#[derive(Default)]
struct Said(BTreeMap<String, Vec<u8>>);

impl Said {
    fn hear(&mut self, from: &str, bytes: &[u8]) {
        self.0.entry(from.to_owned()).or_default().extend_from_slice(bytes);
    }

    /// Runs a command at the most verbose level; gives its result, which is only heard where it may be.
    fn cli(&mut self, market: &Market, arguments: &[&str], result_is_secret: bool) -> Value {
        let output = run(market.command(arguments).arg("--json").env("RUST_LOG", "trace"));
        let name = format!("deepmarket {}", arguments.join(" "));
        assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stderr).contains("TRACE"), "{name} logs nothing");
        self.hear(&name, &output.stderr);
        if !result_is_secret {
            self.hear(&name, &output.stdout);
        }
        json(&output)
    }
}

/// Files that hold a plain key: those are to be searched for, not in.
fn key_files(below: &Path) -> Vec<(PathBuf, SecretKey)> {
    let key = |path: PathBuf| {
        let file: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let seed = hex_bytes(file["secret"].as_str()?)?;
        Some((path, SecretKey::from_seed(seed)))
    };
    files(below).into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")).filter_map(key).collect()
}

fn hex_bytes(text: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = (0..text.len() / 2).map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn files(below: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(below) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] }).collect()
}

/// What is searched for: bytes, and what they are.
struct Needles {
    all: Vec<(Vec<u8>, String)>,
    /// By their first two bytes.
    by_start: Vec<Vec<usize>>,
}

impl Needles {
    fn new() -> Needles {
        Needles { all: Vec::new(), by_start: vec![Vec::new(); 1 << 16] }
    }

    fn add(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.by_start[start(&bytes)].push(self.all.len());
        self.all.push((bytes, what.into()));
    }

    /// 32 secret bytes: as they are, in hex, in base 64, and as a list of numbers.
    fn add_bytes(&mut self, what: &str, bytes: [u8; 32]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers: Vec<String> = bytes[..12].iter().map(u8::to_string).collect();
        self.add(format!("{what}, raw"), bytes);
        self.add(format!("{what}, hex"), hex.to_uppercase());
        self.add(format!("{what}, hex"), hex);
        self.add(format!("{what}, base 64"), base64(&bytes, b"+/"));
        self.add(format!("{what}, base 64"), base64(&bytes, b"-_"));
        self.add(format!("{what}, numbers"), numbers.join(", "));
        self.add(format!("{what}, numbers"), numbers.join(","));
    }

    /// Recovery words: any three in a row, however they are joined.
    fn add_words(&mut self, what: &str, words: &[String]) {
        for three in words.windows(3) {
            for between in [" ", ",", ", ", "\",\"", "\", \"", "\n"] {
                self.add(what, three.join(between));
            }
        }
    }

    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        bytes.windows(2).enumerate().find_map(|(at, two)| {
            let found = self.by_start[start(two)].iter().find(|needle| bytes[at..].starts_with(&self.all[**needle].0))?;
            Some(self.all[*found].1.as_str())
        })
    }
}

fn start(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

/// Base 64 without what fills it up at its end.
fn base64(bytes: &[u8], last_two: &[u8; 2]) -> String {
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last_two.map(char::from)).collect();
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, i| bits << 8 | usize::from(three.get(i).copied().unwrap_or(0)));
        (0..=three.len()).map(|i| digits[bits >> (18 - 6 * i) & 63]).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// A process that a test started; it doesn't outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_secret_is_printed_logged_or_kept_outside_its_file() {
    let _turn = my_turn();
    let market = Market::up_logging(1, None, Some("trace"));
    let (far, mut said) = (tempfile::tempdir().unwrap(), Said::default());
    let mut needles = Needles::new();

    said.cli(&market, &["account", "open", "--name", "alice", "--identity", IDENTITY], false);
    // Another machine joins by a one-time code, which is typed over there.
    let invited = said.cli(&market, &["lend", "invite", "--cores", "1", "--ram-mib", "512"], true);
    let code = invited["code"].as_str().unwrap().to_owned();
    let log = fs::File::create(far.path().join("join.log")).unwrap();
    let mut command = Command::new(program("deepmarket"));
    command.arg("--home").arg(far.path()).args([
        "--json",
        "--gateway",
        &market.gateways()[0],
        "lend",
        "join",
        "-",
        "--machine",
        "far",
    ]);
    command.env_remove("DEEPMARKET_GATEWAY").env_remove("DEEPMARKET_HOME").env_remove("DEEPMARKET_ACCOUNT");
    command.env("RUST_LOG", "trace").stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut joined = Running(command.spawn().unwrap());
    writeln!(joined.0.stdin.take().unwrap(), "{code}").unwrap();
    wait_for("the machine to join", MINUTE, || {
        let machines = market.cli(&["lend", "status"]);
        machines.as_array().unwrap().iter().any(|machine| machine["state"] == "idle").then_some(())
    });
    // A job, from its data to its end.
    said.cli(&market, &["data", "generate", "regression", "--name", "regression", "--samples", "400"], false);
    let job = said.cli(&market, &["job", "submit", "examples/regression.toml"], false);
    let job = job["job"].as_str().or(job["id"].as_str()).unwrap_or("job-1").to_owned();
    market.wait_until_closed(&job, 3 * MINUTE);
    said.cli(&market, &["job", "metrics", &job], false);
    said.cli(&market, &["account", "statement"], false);

    // What PLUTO does with a key: a password, the words, both mistyped and typed well.
    let keys = [key_files(market.home()), key_files(far.path())].concat();
    let alice = &keys.iter().find(|(path, _)| path.ends_with("accounts/alice.json")).expect("alice has a key").1;
    let words = vault::words(alice).to_vec();
    let vault = market.home().join("pluto/accounts/alice.json");
    Vault::seal("alice", alice, PASSWORD).unwrap().write_new(&vault).unwrap();
    let sealed = Vault::read(&vault).unwrap();
    said.hear("the sealed key", format!("{sealed:?}").as_bytes());
    said.hear("a wrong password", format!("{:?}", sealed.open("correct-horse-batterz").unwrap_err()).as_bytes());
    said.hear("the open key", format!("{:?}", sealed.open(PASSWORD).unwrap()).as_bytes());
    for (change, place) in [("zebra", 3), ("no-word", 20)] {
        let mut wrong = words.clone();
        wrong[place] = change.to_owned();
        said.hear("wrong words", format!("{:?}", vault::key_of_words(&wrong.join(" ")).unwrap_err()).as_bytes());
    }
    assert_eq!(vault::key_of_words(&words.join(" ")).unwrap().public(), alice.public());
    for pid in market.pids().into_iter().chain([joined.0.id()]) {
        said.hear("the arguments of processes", &fs::read(format!("/proc/{pid}/cmdline")).unwrap());
    }

    // Every secret that was in play: validators, registrar, lender, its machine, alice, the machine that joined, the code.
    let names: Vec<String> = keys.iter().map(|(path, _)| path.display().to_string()).collect();
    assert!(keys.len() >= 4 + 4 + 4, "{names:?}");
    for (path, key) in &keys {
        let name = path.strip_prefix(market.home()).unwrap_or(path).display().to_string();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700), "{name} and its folder");
        needles.add_bytes(&format!("the key of {name}"), key.seed());
        needles.add_words(&format!("the words of {name}"), &vault::words(key));
        let salt = Hash::tagged("deepmarket/v1/registrar-salt", &[&key.seed()]);
        needles.add_bytes(&format!("the salt of {name}"), salt.0);
    }
    let chain: Hash = market.get(0, "/v1/status").unwrap()["chain"].as_str().unwrap().parse().unwrap();
    needles.add_bytes("the one-time code's key", code.parse::<InviteCode>().unwrap().key(&chain).seed());
    for form in [code.clone(), code.replace('-', ""), code.to_lowercase(), code.to_lowercase().replace('-', "")] {
        needles.add("the one-time code", form);
    }
    needles.add("the password", PASSWORD);
    needles.add("the identity", IDENTITY);
    // The search finds what is there.
    for (bytes, what) in &needles.all {
        assert!(needles.found_in(&[b"xy", bytes.as_slice(), b"z"].concat()).is_some(), "{what}");
    }

    signal(joined.0.id(), Signal::INT);
    assert!(joined.0.wait().unwrap().success());
    let mut searched = 0;
    for path in [files(market.home()), files(far.path())].concat() {
        if keys.iter().any(|(key, _)| *key == path) {
            continue;
        }
        // Files come and go while the market runs.
        let Ok(bytes) = fs::read(&path) else { continue };
        searched += bytes.len();
        if let Some(what) = needles.found_in(&bytes) {
            panic!("{what} is in {}", path.display());
        }
    }
    for (from, bytes) in &said.0 {
        searched += bytes.len();
        if let Some(what) = needles.found_in(bytes) {
            panic!("{what} is in what this printed: {from}");
        }
    }
    println!("searched {} MB for {} forms of secrets", searched / 1_000_000, needles.all.len());
    let log = fs::read_to_string(market.home().join("market/validator-0/output.log")).unwrap_or_default();
    assert!(log.contains("TRACE"), "the validators log at the most verbose level");
}
