//! Headless Chromium, told what to do over its DevTools pipe: messages of JSON, each ended by a zero byte.
//!
//! A page that listens to an endless stream of events never "is loaded", so tests don't wait for that: they ask the page until
//! it shows what they expect.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The longest that the browser may take for anything: the machines that run tests are loaded.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions to a page.
const PAUSE: Duration = Duration::from_millis(50);

/// The names under which systems install it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// One browser with one page.
pub struct Browser {
    child: Child,
    tell: ChildStdin,
    told: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the page complained about: errors of scripts, refused requests, violated policies.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    candidates.find(|file| file.is_file()).expect("no Chromium is installed; run: scripts/packages.sh test")
}

impl Browser {
    /// Starts one with an empty page.
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // DevTools listens on descriptor 3 and answers on 4: the shell makes them of standard input and output.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 1>&2"#])
            .arg(program())
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (heard, told) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|bytes| bytes > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if heard.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser { child, tell, told, session: None, last: 0, complaints: Vec::new(), _profile: profile };
        let target = browser.command("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and gives its result.
    pub fn command(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.tell.write_all(&bytes).unwrap();
        loop {
            let told = self.told.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("Chromium doesn't answer {method}: {e}"));
            if told["id"] == self.last {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].clone();
            }
            self.listen(&told);
        }
    }

    fn listen(&mut self, told: &Value) {
        let params = &told["params"];
        match told["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => self.complaints.push(params["entry"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => self.complaints.push(params["args"].to_string()),
            _ => {}
        }
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) {
        self.command("Page.navigate", json!({ "url": url }));
    }

    /// What a script in the page says.
    pub fn ask(&mut self, script: &str) -> Value {
        let answer =
            self.command("Runtime.evaluate", json!({ "expression": script, "returnByValue": true, "awaitPromise": true }));
        assert!(answer["exceptionDetails"].is_null(), "{script}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text that people see.
    pub fn text(&mut self) -> String {
        self.ask("document.body?.innerText ?? ''").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows all these texts, and gives its text.
    pub fn shows(&mut self, expected: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            let Some(missing) = expected.iter().find(|part| !text.contains(*part)) else { return text };
            assert!(began.elapsed() < PATIENCE, "the page never showed '{missing}' but:\n{text}\n{:?}", self.complaints);
            std::thread::sleep(PAUSE);
        }
    }

    /// Presses a key, for example `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) {
        let code = if key == "Enter" { 13 } else { 9 };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut press = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                press["text"] = text.into();
            }
            self.command("Input.dispatchKeyEvent", press);
        }
    }

    /// Types into what has the focus.
    pub fn types(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text }));
    }

    /// Makes the page as wide and high as some screen, light or dark.
    pub fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features);
    }

    /// Writes what is seen into a PNG file.
    pub fn screenshot(&mut self, file: &Path) {
        let shot = self.command("Page.captureScreenshot", json!({ "format": "png" }));
        let output = std::fs::File::create(file).unwrap();
        let mut decode = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(output).spawn().unwrap();
        decode.stdin.take().unwrap().write_all(shot["data"].as_str().unwrap().as_bytes()).unwrap();
        assert!(decode.wait().unwrap().success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The answer to this is the end of the pipe. A browser that hangs is killed.
        self.session = None;
        let close = json!({ "id": 0, "method": "Browser.close" }).to_string();
        let told = self.tell.write_all(close.as_bytes()).and_then(|()| self.tell.write_all(b"\0"));
        let began = Instant::now();
        while told.is_ok() && began.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
