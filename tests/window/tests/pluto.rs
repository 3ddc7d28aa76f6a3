//! PLUTO as people use it: real windows on a virtual screen, a real market of four validators, a real compute node.

use std::{path::Path, time::Duration};

use deepmarket_test_market::{Market, checkout, mnist, signal, without_section};
use deepmarket_window_tests::{Screen, Window};
use rustix::process::Signal;
use serde_json::Value;

const PASSWORD: &str = "correct horse battery";

/// Through the first steps of a new wallet: the market, the account, the words. Gives the recovery words.
fn create_account(window: &Window, name: &str, look: bool) -> Vec<String> {
    let looks = |view: &str| {
        if look {
            inspect(window, &format!("welcome-{view}"));
        }
    };
    window.read("Use this market");
    looks("market");
    window.click("Use this market");
    window.read("Create an account");
    looks("accounts");
    window.click("Create an account");
    window.fill("Name on this computer", name);
    window.fill("Identity", &format!("{name}@pdx.example"));
    looks("name");
    window.click("Next");
    window.fill("Password", PASSWORD);
    window.fill("Password again", PASSWORD);
    looks("password");
    window.click("Next");
    window.read("I have written them down");
    looks("words");
    let words = "return [...document.querySelectorAll('ol li')].map((li) => li.querySelector('.mono, strong, span:last-child').innerText.trim())";
    let words: Vec<String> = serde_json::from_value(window.script(words, Vec::new())).unwrap();
    assert_eq!(words.len(), 24, "{words:?}");
    window.click("I have written them down");
    window.read("Three of them");
    let places = "return [...document.querySelectorAll('label')].map((l) => l.innerText).filter((t) => t.startsWith('Word '))";
    let places: Vec<String> = serde_json::from_value(window.script(places, Vec::new())).unwrap();
    assert_eq!(places.len(), 3);
    // A mistake is told at its word, and nothing is made.
    let wrong = if word(&words, &places[0]) == "zebra" { "apple" } else { "zebra" };
    window.fill(&places[0], wrong);
    assert_eq!(window.value(&places[0]), wrong);
    for place in &places[1..] {
        window.fill(place, word(&words, place));
    }
    window.click("Create the account");
    window.read("This isn't word");
    looks("check");
    window.fill(&places[0], word(&words, &places[0]));
    window.click("Create the account");
    window.read("50 credits arrived");
    looks("done");
    window.click("Open the wallet");
    window.read("Total balance");
    window.read("50.00");
    words
}

/// The word that a label like `Word 7` asks for.
fn word<'a>(words: &'a [String], label: &str) -> &'a str {
    let place: usize = label.trim_start_matches("Word ").parse().unwrap();
    &words[place - 1]
}

/// A picture in both themes; nobody is kept out by it, says axe-core.
fn inspect(window: &Window, view: &str) {
    window.settle();
    window.shoot_both(view);
    let violations = window.violations();
    assert!(violations.is_empty(), "{view}: {violations:#?}");
}

fn money(view: &Value, purse: &str) -> u64 {
    view[purse].as_u64().unwrap()
}

/// What the market holds of the unlocked account.
fn account(market: &Market, window: &Window) -> Value {
    let start = window.invoke("start", &serde_json::json!({}));
    let id = start["ok"]["session"]["id"].as_str().unwrap().to_owned();
    market.get(1, &format!("/v1/accounts/{id}")).unwrap()
}

/// A job small enough for a test: the example on one machine, for two epochs.
fn job(window: &Window) {
    window.fill("Workers, fewest", "1");
    window.fill("Workers, most", "1");
    window.fill("Epochs", "2");
}

fn import(window: &Window, folder: &Path) {
    window.click("Import…");
    window.fill("Folder", folder.to_str().unwrap());
    window.click("Import");
    let open = "return document.querySelectorAll('dialog').length";
    window.wait_until("the import to end", Duration::from_secs(120), || window.script(open, Vec::new()) == 0);
}

#[test]
fn two_people_lend_and_train_from_their_windows_and_both_balances_are_right() {
    // Who lends alone has nobody to audit her, and her pay would be held for long.
    let local = std::fs::read_to_string(checkout().join("genesis/networks/local.toml")).unwrap();
    let mut market = Market::up_with(0, Some(&without_section(&local, "[params.audit]")));
    let screen = Screen::start();
    let folder = tempfile::tempdir().unwrap();
    let data = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };

    // Lena lends this machine.
    let lender = Window::open(&screen, "lena", &data("lena"), market.home());
    create_account(&lender, "lena", true);
    inspect(&lender, "dashboard-new");
    lender.go("#/resources");
    lender.read("This computer");
    inspect(&lender, "resources-none");
    lender.go("#/resources/add/this");
    lender.click("Verify");
    lender.read_within("CPU cores", Duration::from_secs(120));
    lender.click("Evaluate");
    lender.read("legitimate");
    inspect(&lender, "resources-add");
    lender.click("Lend…");
    lender.click("Lend");
    lender.go("#/resources");
    lender.read_within("idle", Duration::from_secs(120));
    inspect(&lender, "resources-lent");

    // Bob trains MNIST on it.
    let mut borrower = Window::open(&screen, "bob", &data("bob"), market.home());
    let words = create_account(&borrower, "bob", false);
    borrower.go("#/jobs");
    borrower.read("New job");
    inspect(&borrower, "jobs-none");
    borrower.go("#/jobs/new");
    borrower.read("Start from");
    borrower.click("Handwritten digits");
    import(&borrower, &mnist());
    job(&borrower);
    borrower.read_within("Review and sign…", Duration::from_secs(60));
    borrower.read_within("The cap covers", Duration::from_secs(60));
    inspect(&borrower, "jobs-new");
    borrower.click("Review and sign…");
    borrower.read("Goes into escrow");
    inspect(&borrower, "jobs-sign");
    borrower.click("Sign and submit");
    borrower.read_within("Training loss", Duration::from_secs(60));

    // Curves move while it trains.
    borrower.read_within("On the validation split", Duration::from_secs(120));
    borrower.see_within("[aria-label^='Loss over rounds']", Duration::from_secs(120));
    let rounds = |window: &Window| {
        let label = "return document.querySelector(\"[aria-label^='Loss over rounds']\").getAttribute('aria-label')";
        window.script(label, Vec::new())
    };
    let before = rounds(&borrower);
    borrower.wait_until("the loss curve to move", Duration::from_secs(60), || rounds(&borrower) != before);
    inspect(&borrower, "job-running");
    lender.read_within("in use", Duration::from_secs(30));
    inspect(&lender, "resources-in-use");
    borrower.read_within("finished", Duration::from_secs(300));
    borrower.read_within("Save model…", Duration::from_secs(30));
    borrower.click("Evaluate");
    borrower.read_within("%", Duration::from_secs(120));
    inspect(&borrower, "job-finished");

    // Both balances are what the chain holds, and what the job paid moved from one to the other.
    let job = market.get(1, "/v1/jobs/job-1").unwrap();
    let paid = job["paid"].as_u64().unwrap();
    assert!(paid > 0 && job["escrow"] == 0);
    let (lena, bob) = (account(&market, &lender), account(&market, &borrower));
    assert_eq!((money(&lena, "granted"), money(&lena, "earned")), (50_000_000, paid));
    assert_eq!((money(&bob, "granted"), money(&bob, "earned")), (50_000_000 - paid, 0));
    for (window, amount) in [(&lender, 50_000_000 + paid), (&borrower, 50_000_000 - paid)] {
        window.go("#/account");
        window.read("Why is my balance this?");
        window.read(&exact(amount));
    }
    inspect(&borrower, "account-balance");
    for part in ["history", "transfer", "keys", "settings"] {
        borrower.go(&format!("#/account/{part}"));
        borrower.settle();
        inspect(&borrower, &format!("account-{part}"));
    }
    borrower.go("#/dashboard");
    borrower.read("Cost history");
    inspect(&borrower, "dashboard-cost");
    borrower.go("#/account");
    lender.go("#/dashboard");
    lender.read("Profit history");
    inspect(&lender, "dashboard-profit");

    // A credit can be followed down to its transaction.
    lender.go("#/account/history");
    lender.read("Work");
    lender.script("document.querySelector('a.entry').click()", Vec::new());
    lender.read("Receipt for work");
    inspect(&lender, "account-transaction");

    // What she earned she can send on; starting credits stay.
    lender.go("#/account/transfer");
    lender.fill("To", bob["id"].as_str().unwrap());
    lender.fill("Amount in credits", "0.001");
    lender.click("Look it over");
    lender.read("Send these credits?");
    inspect(&lender, "account-send");
    lender.click("Sign and send");
    lender.read("Its transaction");
    borrower.read_within(&exact(50_000_000 - paid + 1_000), Duration::from_secs(30));
    let exported = folder.path().join("lena.json");
    let outcome = lender.invoke("export_key", &serde_json::json!({ "path": exported }));
    assert!(outcome.get("error").is_none(), "{outcome}");

    // Lock, a wrong password, the right one.
    borrower.click("Lock");
    borrower.read("Unlock");
    borrower.fill("Password", "wrong horse battery");
    borrower.click("Unlock");
    borrower.read("password is wrong");
    inspect(&borrower, "unlock");
    borrower.fill("Password", PASSWORD);
    borrower.click("Unlock");
    borrower.read("Why is my balance this?");

    // One gateway dies: the others are asked. All fall silent: it is said, and what was typed stays.
    market.kill("validator-0");
    let height = |window: &Window| window.script("return document.querySelector('.connection').innerText", Vec::new());
    let before = height(&borrower);
    borrower.wait_until("blocks from another gateway", Duration::from_secs(60), || {
        let now = height(&borrower);
        now != before && now.as_str().unwrap_or_default().contains("block")
    });
    borrower.go("#/account/transfer");
    borrower.fill("Amount in credits", "1.5");
    let pids: Vec<u32> = (1..4).map(|number| market.pid(&format!("validator-{number}"))).collect();
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    borrower.read_within("No connection", Duration::from_secs(90));
    inspect(&borrower, "no-connection");
    pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
    borrower.wait_until("the connection to be back", Duration::from_secs(90), || !borrower.text().contains("No connection"));
    assert_eq!(borrower.value("Amount in credits"), "1.5", "nothing that was typed is lost");
    market.restart_validator(0);

    // Another computer: the words bring the same account back.
    borrower.close();
    let restored = Window::open(&screen, "bob's other computer", &data("restored"), market.home());
    restored.read("Use this market");
    restored.click("Use this market");
    restored.click("Restore from 24 words");
    restored.fill("The 24 recovery words", &words.join(" "));
    restored.fill("Name on this computer", "bob");
    restored.fill("New password", PASSWORD);
    restored.fill("New password again", PASSWORD);
    inspect(&restored, "welcome-restore");
    restored.click("Restore");
    restored.read("Total balance");
    assert_eq!(account(&market, &restored)["id"], bob["id"]);
    restored.go("#/jobs");
    restored.read("mnist-cnn");
    inspect(&restored, "jobs-list");
    restored.resize(900, 600);
    for view in ["dashboard", "resources", "resources/add/this", "jobs", "jobs/new", "jobs/job-1", "account", "account/history"] {
        restored.go(&format!("#/{view}"));
        restored.settle();
        inspect(&restored, &format!("small-{}", view.replace('/', "-")));
    }

    // A second account in the same wallet, from its exported file.
    restored.click("Lock");
    restored.click("Another account");
    restored.click("Import a key file");
    restored.fill("Key file", exported.to_str().unwrap());
    restored.fill("The file's own password", PASSWORD);
    restored.fill("Name on this computer", "lena");
    restored.fill("New password", PASSWORD);
    restored.fill("New password again", PASSWORD);
    inspect(&restored, "welcome-import");
    restored.click("Import");
    restored.read("Total balance");
    assert_eq!(account(&market, &restored)["id"], lena["id"]);

    // Lena takes her machine back: the node ends, and so does its offer.
    lender.go("#/resources");
    lender.click("Stop");
    lender.read("Go on lending");
    lender
        .script("[...document.querySelectorAll('dialog button')].find((b) => b.innerText.trim() === 'Stop').click()", Vec::new());
    lender.read_within("withdrawn", Duration::from_secs(60));
    nothing_secret_below(folder.path(), &words);
}

/// Neither passwords nor recovery words are in anything that PLUTO, its web view and its node have written.
fn nothing_secret_below(folder: &Path, words: &[String]) {
    let mut secrets: Vec<String> =
        words.windows(3).flat_map(|three| [three.join(" "), three.join("\",\""), three.join(",")]).collect();
    secrets.push(PASSWORD.to_owned());
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            nothing_secret_below(&path, words);
        } else if let Ok(bytes) = std::fs::read(&path) {
            // The web view writes texts in one byte a character or in two.
            let texts = [
                String::from_utf8_lossy(&bytes).into_owned(),
                bytes.iter().filter(|b| **b != 0).map(|b| char::from(*b)).collect(),
            ];
            for text in &texts {
                assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret is in {}", path.display());
            }
        }
    }
}

/// `49.931234`, as the page writes it.
fn exact(micro: u64) -> String {
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
