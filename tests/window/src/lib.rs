//! PLUTO's real window on a virtual screen, driven by WebDriver as a person drives it: by labels and the words on buttons.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use deepmarket_test_market::{checkout, free_port, program, wait_for};

/// How long a person would wait for something to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// A virtual X screen.
pub struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    /// Starts one with a number that the X server finds free itself.
    pub fn start() -> Screen {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "2700x900x24", "-nolisten", "tcp"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb starts (make test installs it)");
        let mut number = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut number).expect("Xvfb tells its display");
        Screen { server, display: format!(":{}", number.trim()) }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One PLUTO with its own data folder.
pub struct Window {
    runtime: Runtime,
    client: Option<Client>,
    driver: Child,
    port: u16,
    environment: Vec<(&'static str, PathBuf)>,
    name: String,
}

impl Window {
    /// Opens PLUTO on a data folder. `market` is the home folder of the local market that it shall find.
    pub fn open(screen: &Screen, name: &str, data: &Path, market: &Path) -> Window {
        let port = free_port();
        let log = File::create(data.join("driver.log")).expect("a log file");
        let environment = vec![
            ("DISPLAY", PathBuf::from(&screen.display)),
            ("PLUTO_HOME", data.join("pluto")),
            ("XDG_DATA_HOME", data.join("share")),
            ("XDG_CONFIG_HOME", data.join("config")),
            ("XDG_CACHE_HOME", data.join("cache")),
            ("DEEPMARKET_HOME", market.to_owned()),
            ("TAURI_WEBVIEW_AUTOMATION", PathBuf::from("true")),
            ("NO_AT_BRIDGE", PathBuf::from("1")),
        ];
        let driver = Command::new("WebKitWebDriver")
            .args([format!("--port={port}"), "--host=127.0.0.1".into()])
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .env_remove("DEEPMARKET_GATEWAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("WebKitWebDriver starts (make test installs it)");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut window = Window { runtime, client: None, driver, port, environment, name: name.to_owned() };
        window.start();
        window
    }

    /// Starts the program, again where it was closed.
    pub fn start(&mut self) {
        let url = format!("http://127.0.0.1:{}", self.port);
        let options = json!({ "binary": program("pluto"), "args": [] });
        let capabilities = serde_json::Map::from_iter([("webkitgtk:browserOptions".to_owned(), options)]);
        let port = self.port;
        wait_for("WebKitWebDriver to listen", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let client = self.runtime.block_on(ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&url));
        self.client = Some(client.unwrap_or_else(|error| panic!("PLUTO's window does not open: {error}")));
        self.see("#app > *");
    }

    /// Closes the window; its program ends.
    pub fn close(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = self.runtime.block_on(client.close());
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("the window is open")
    }

    /// Runs a script in the page and gives what it returns.
    pub fn script(&self, script: &str, arguments: Vec<Value>) -> Value {
        let outcome = self.runtime.block_on(self.client().execute(script, arguments));
        outcome.unwrap_or_else(|error| panic!("{}: the script fails: {error}\n{script}", self.name))
    }

    /// The words that can be seen.
    pub fn text(&self) -> String {
        self.script("return document.body.innerText", Vec::new()).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows some words.
    pub fn read(&self, words: &str) {
        self.read_within(words, PATIENCE);
    }

    /// The same with another deadline.
    pub fn read_within(&self, words: &str, patience: Duration) {
        self.wait_until(&format!("'{words}'"), patience, || self.text().contains(words));
    }

    fn wait(&self, locator: Locator<'_>) -> Element {
        self.wait_within(locator, PATIENCE)
    }

    fn wait_within(&self, locator: Locator<'_>, patience: Duration) -> Element {
        let found = self.runtime.block_on(self.client().wait().at_most(patience).for_element(locator));
        found.unwrap_or_else(|error| {
            self.shoot("failed");
            panic!("{}: there is no {locator:?} ({error}); the page says:\n{}", self.name, self.text())
        })
    }

    /// Waits for something by CSS.
    pub fn see(&self, css: &str) -> Element {
        self.wait(Locator::Css(css))
    }

    /// The same with another deadline.
    pub fn see_within(&self, css: &str, patience: Duration) -> Element {
        self.wait_within(Locator::Css(css), patience)
    }

    /// Waits for something that the page can't be asked for by its words.
    pub fn wait_until(&self, what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + patience;
        while !holds() {
            if Instant::now() > end {
                self.shoot("failed");
                panic!("{}: waited {patience:?} in vain for {what}; the page says:\n{}", self.name, self.text());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until nothing is loading any more.
    pub fn settle(&self) {
        let loading = "return document.querySelectorAll('[aria-label=\"Loading\"], [aria-busy=\"true\"]').length";
        self.wait_until("the view to be complete", PATIENCE, || self.script(loading, Vec::new()) == 0);
    }

    /// Clicks a button, a link or a label by its words, once it can be clicked.
    pub fn click(&self, words: &str) {
        let kinds = "self::button or self::a or self::label or self::summary or @role='tab' or @role='button'";
        // A card is named by its title.
        let words = quoted(words);
        let named = format!("normalize-space()={words} or @aria-label={words} or strong[normalize-space()={words}]");
        let path = format!("//*[({kinds}) and ({named}) and not(@disabled)]");
        let element = self.wait(Locator::XPath(&path));
        // Through the page: what a notice covers for a moment is clicked all the same.
        let element = serde_json::to_value(element).expect("an element's reference");
        self.script("arguments[0].scrollIntoView({block:'center'}); arguments[0].click()", vec![element]);
    }

    /// The control that a label is for.
    fn control(&self, label: &str) -> Element {
        let label = quoted(label);
        let by_for = format!("//*[@id=(//label[normalize-space()={label}]/@for)]");
        let by_name = format!("//*[self::input or self::select or self::textarea][@aria-label={label}]");
        let within = format!("//label[starts-with(normalize-space(),{label})]//*[self::input or self::select or self::textarea]");
        self.wait(Locator::XPath(&format!("{by_for} | {by_name} | {within}")))
    }

    /// Replaces what a field holds.
    pub fn fill(&self, label: &str, text: &str) {
        let element = self.control(label);
        self.runtime
            .block_on(async {
                element.clear().await?;
                element.send_keys(text).await
            })
            .unwrap_or_else(|error| panic!("{}: '{label}' can't be filled: {error}", self.name));
    }

    /// What a field holds.
    pub fn value(&self, label: &str) -> String {
        let element = serde_json::to_value(self.control(label)).expect("an element's reference");
        self.script("return arguments[0].value", vec![element]).as_str().unwrap_or_default().to_owned()
    }

    /// Chooses an option of a select by its value or its words.
    pub fn choose(&self, label: &str, option: &str) {
        let element = serde_json::to_value(self.control(label)).expect("an element's reference");
        let script = "const [select, wanted] = arguments;
            const option = [...select.options].find((o) => o.value === wanted || o.text.trim().startsWith(wanted));
            select.value = option.value; select.dispatchEvent(new Event('change', { bubbles: true }))";
        self.script(script, vec![element, json!(option)]);
    }

    /// Goes to an address of the page, for example `#/jobs`.
    pub fn go(&self, hash: &str) {
        self.script("location.hash = arguments[0]", vec![json!(hash)]);
    }

    /// Asks Rust as the page does.
    pub fn invoke(&self, command: &str, arguments: &Value) -> Value {
        let script = "const [command, args, done] = arguments;
            window.__TAURI_INTERNALS__.invoke(command, args).then((ok) => done({ ok }), (error) => done({ error }))";
        let outcome = self.runtime.block_on(self.client().execute_async(script, vec![json!(command), arguments.clone()]));
        outcome.unwrap_or_else(|error| panic!("{}: {command} fails: {error}", self.name))
    }

    /// Resizes the window's inside.
    pub fn resize(&self, width: u32, height: u32) {
        let outcome = self.runtime.block_on(self.client().set_window_size(width, height));
        outcome.unwrap_or_else(|error| panic!("{}: the window can't be resized: {error}", self.name));
    }

    /// Switches the theme.
    pub fn theme(&self, theme: &str) {
        self.script("document.documentElement.dataset.theme = arguments[0]", vec![json!(theme)]);
    }

    /// Keeps a picture of the window among the test's artifacts, in both themes.
    pub fn shoot_both(&self, view: &str) {
        for theme in ["light", "dark"] {
            self.theme(theme);
            self.shoot(&format!("{view}-{theme}"));
        }
        self.script("delete document.documentElement.dataset.theme", Vec::new());
    }

    /// Keeps a picture of the window among the test's artifacts.
    pub fn shoot(&self, view: &str) {
        // What was painted last is what is taken.
        let painted = "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))";
        let _ = self.runtime.block_on(self.client().execute_async(painted, Vec::new()));
        let picture = self.runtime.block_on(self.client().screenshot()).expect("a screenshot");
        let folder = artifacts();
        fs::create_dir_all(&folder).expect("a folder for screenshots");
        fs::write(folder.join(format!("{view}.png")), picture).expect("a screenshot's file");
    }

    /// What axe-core finds in the view that is shown: serious and critical violations, in words.
    pub fn violations(&self) -> Vec<String> {
        let axe = checkout().join("desktop/ui/node_modules/axe-core/axe.min.js");
        let axe = fs::read_to_string(axe).expect("the page's packages are there (make test brings them)");
        // A part of the script itself: the page's policy lets nothing else in.
        let script = "const [done] = arguments;
            window.axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => done(violations
                .filter(({ impact }) => impact === 'serious' || impact === 'critical')
                .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(' | ')}`)))
                .catch((error) => done([String(error)]))";
        let script = format!("{axe};\n{script}");
        let found = self.runtime.block_on(self.client().execute_async(&script, Vec::new()));
        serde_json::from_value(found.expect("axe runs")).expect("a list of texts")
    }

    /// The data folder of this window.
    pub fn data(&self) -> &Path {
        let (_, path) = self.environment.iter().find(|(name, _)| *name == "PLUTO_HOME").expect("it was set");
        path
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
        if let Some(group) = i32::try_from(self.driver.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::TERM);
            std::thread::sleep(Duration::from_millis(300));
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

/// A text in XPath, which knows no escapes.
fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}

/// Where screenshots go.
pub fn artifacts() -> PathBuf {
    program("deepmarket").parent().expect("a program lies in a folder").join("pluto-screenshots")
}
