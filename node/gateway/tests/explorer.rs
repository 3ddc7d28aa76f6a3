//! The explorer in a real browser, beside a real validator.

mod browser;
mod market;

use std::path::PathBuf;

use browser::Browser;
use deepmarket_api::AccountView;
use deepmarket_job::JobSpec;
use deepmarket_types::{
    Action, Availability, Credits, DailyHours, Hash, JobId, LeaseOutcome, Offer, SecretKey, UnitPrices, Weekdays,
};
use market::{Market, account_of, config, machine_of, offer, spec};

/// A name that would be a script, were it ever parsed as HTML.
const HOSTILE: &str = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>";

/// A market with something to see: a finished job, one that runs, one that waits, and a machine with a hostile name.
struct Scene {
    market: Market,
    lender: SecretKey,
    borrower: SecretKey,
    machine: SecretKey,
    hostile: SecretKey,
}

impl Scene {
    async fn start() -> Scene {
        let market = Market::start().await;
        let (lender, borrower) = (market.open_account(1).await, market.open_account(2).await);
        let machine = market.lend_as(&lender, 3, config("lab-7"), offer()).await;
        let borrow = async |spec: JobSpec| {
            market.client.act(&borrower, Action::Borrow { spec: spec.to_bytes() }).await.unwrap();
        };
        borrow(JobSpec { name: "mnist-mlp".into(), ..spec() }).await;
        for sequence in 1..4 {
            market.report(&machine, sequence, LeaseOutcome::Running).await;
        }
        market.report(&machine, 4, LeaseOutcome::Finished(Hash::of(b"model"))).await;
        let mut large = JobSpec { name: "needs-two-machines".into(), ..spec() };
        (large.workers.min, large.workers.max) = (2, 2);
        large.workers.ram_mib = 8192;
        borrow(large).await;
        borrow(JobSpec { name: "fashion-cnn".into(), ..spec() }).await;
        market.report(&machine, 1, LeaseOutcome::Running).await;
        let transfer = Action::Transfer { to: account_of(&borrower), amount: Credits::from_micro(1) };
        market.client.act(&lender, transfer).await.unwrap();

        let hours = Some(DailyHours { from_minute: 1080, to_minute: 480 });
        let availability = Availability { hours, weekdays: Weekdays(0b1_1111), until: None };
        let minimum = UnitPrices { core_hour: Credits::from_micro(74_999_999), ..UnitPrices::default() };
        let picky = Offer {
            availability,
            minimum,
            resources: deepmarket_types::Resources { ram_mib: 4096, ..market::RESOURCES },
            ..offer()
        };
        let hostile = market.lend_as(&lender, 4, config(HOSTILE), picky).await;
        Scene { market, lender, borrower, machine, hostile }
    }

    fn at(&self, page: &str) -> String {
        format!("{}/#/{page}", self.market.url)
    }

    async fn account(&self, key: &SecretKey) -> AccountView {
        self.market.client.account(account_of(key)).await.unwrap().unwrap()
    }
}

/// An amount as the explorer shows it: all six decimals.
fn shown(amount: Credits) -> String {
    format!("{}.{:06}", amount.micro() / 1_000_000, amount.micro() % 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_shows_the_market_and_nothing_in_it_becomes_a_script() {
    let scene = Scene::start().await;
    let client = &scene.market.client;
    let mut browser = Browser::start();

    // The market: prices with the current slot marked, jobs, blocks, and it is live.
    browser.open(&scene.at(""));
    let prices = client.prices().await.unwrap();
    let slot = prices.prices.slots[2];
    let text = browser.shows(&["Prices of the day", &shown(slot.core_hour), "mnist-mlp", "finished", "Block "]);
    assert!(text.contains(&shown(slot.disk_gib_hour)) && text.contains(&shown(Credits::from_credits(100))), "{text}");
    let current = browser.ask("document.querySelector('tr[aria-current=time] td').innerText");
    assert!(current.as_str().unwrap().starts_with(&prices.slot_names[usize::from(prices.current_slot)]), "{current}");
    assert_eq!(browser.ask("document.querySelectorAll('tr[aria-current]').length"), 1);

    // A job with its reason, its workers, its receipts.
    browser.open(&scene.at("job/job-1"));
    let job = client.job(JobId(1)).await.unwrap().unwrap();
    let text = browser.shows(&["mnist-mlp", "All rounds are done.", "receipt 4 of rank 0", &shown(job.paid)]);
    assert!(text.contains(&shown(job.budget)) && text.contains("Came back"), "{text}");
    browser.open(&scene.at("job/job-2"));
    browser.shows(&["needs-two-machines", "queued", "Waits for machines: 0 that fit are free, 2 are needed"]);

    // An account: its balance is explained.
    let lender = scene.account(&scene.lender).await;
    browser.open(&scene.at(&format!("account/{}", lender.id)));
    let text = browser.shows(&["Why the balance is what it is", "balanced", "Starting credits", "Work of dmm1"]);
    for part in
        [shown(lender.granted), shown(lender.earned), "+50.000000".into(), "−0.000001".into(), "receipt 4 for job-1".into()]
    {
        assert!(text.contains(&part), "{part}\n{text}");
    }

    // A machine whose name is a script is a machine with a long name.
    let hostile = machine_of(&scene.hostile);
    browser.open(&scene.at(&format!("machine/{hostile}")));
    browser.shows(&[HOSTILE, "18:00 to 08:00", "74.999999 a core-hour"]);
    assert!(browser.ask("document.title").as_str().unwrap().starts_with(HOSTILE));
    browser.open(&scene.at("machines"));
    browser.shows(&[HOSTILE, "lab-7"]);
    assert_eq!(browser.ask("window.owned ?? document.querySelectorAll('main script, main img').length"), 0);

    // From a block to its transactions.
    let payout = client.account_history(lender.id, None, 100).await.unwrap().pop().unwrap();
    browser.open(&scene.at(&format!("block/{}", payout.height)));
    browser.shows(&["open account", "done", "Signed by", "1 of 1 validator"]);
    let opened = payout.transaction.unwrap();
    browser.open(&scene.at(&format!("tx/{opened}")));
    browser.shows(&["open account", &opened.to_string(), "What it says", "voucher"]);
    browser.open(&scene.at("accounts"));
    browser.shows(&["Starting credits", "dm1", &shown(scene.account(&scene.borrower).await.granted)]);

    assert_eq!(browser.complaints, Vec::<String>::new());
    // A script that somebody brings in all the same isn't run, and no text is parsed as HTML.
    let refused = "(() => { try { document.body.innerHTML = '<p>x'; return 'parsed' } catch (e) { return e.name } })()";
    assert_eq!(browser.ask(refused), "TypeError");
    drop(browser);
    scene.market.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_is_searched_by_keyboard_says_what_is_wrong_and_stays_fresh() {
    let scene = Scene::start().await;
    let client = &scene.market.client;
    let mut browser = Browser::start();
    browser.open(&scene.at("blocks"));
    browser.shows(&["Blocks", "Older"]);

    // The first stop of the keyboard skips the navigation.
    browser.press("Tab");
    assert_eq!(browser.ask("document.activeElement.id"), "skip");
    browser.press("Enter");
    assert_eq!(browser.ask("document.activeElement.id"), "main");
    let search = |browser: &mut Browser, text: &str, expected: &[&str]| {
        browser.ask("document.getElementById('query').focus(); document.getElementById('query').select()");
        browser.types(text);
        browser.press("Enter");
        browser.shows(expected);
    };
    let lender = scene.account(&scene.lender).await;
    search(&mut browser, "1", &["Proposed by", "Decided in round"]);
    search(&mut browser, "job-2", &["needs-two-machines"]);
    search(&mut browser, &lender.id.to_string(), &["Why the balance is what it is"]);
    search(&mut browser, &machine_of(&scene.machine).to_string(), &["lab-7", "Measured"]);
    search(&mut browser, &scene.borrower.public().to_string(), &[&account_of(&scene.borrower).to_string(), "Budget of job-1"]);
    let payout = client.account_history(lender.id, None, 1).await.unwrap().pop().unwrap();
    search(&mut browser, &payout.transaction.unwrap().to_string(), &["What it says", "done"]);
    search(&mut browser, "job-99", &["there is no job job-99", "check the id"]);
    search(&mut browser, "what?", &["Nothing is named “what?”.", "Search for"]);
    browser.open(&scene.at("nowhere"));
    browser.shows(&["There is no such page."]);
    let expected = |complaint: &String| complaint.contains("404");
    assert!(browser.complaints.iter().all(expected), "{:?}", browser.complaints);

    // The page of a job follows the chain, and keeps what has the focus.
    browser.open(&scene.at("job/job-3"));
    browser.shows(&["fashion-cnn", "running", "receipt 1 of rank 0", "trains with the others", "train together: lease-"]);
    browser.ask("document.querySelector('summary').focus(); document.querySelector('details').open = true");
    scene.market.report(&scene.machine, 2, LeaseOutcome::Running).await;
    browser.shows(&["receipt 2 of rank 0", "1 worker trains."]);
    assert_eq!(
        browser.ask("[document.activeElement.tagName, document.querySelector('details').open]"),
        serde_json::json!(["SUMMARY", true])
    );

    // An account without anything says so.
    let poor = scene.market.open_account(5).await;
    browser.open(&scene.at(&format!("account/{}", account_of(&poor))));
    browser.shows(&["No receipt was paid to or by this account in 30 days.", "balanced"]);

    // Without its gateway it says that, and recovers.
    let Scene { mut market, .. } = scene;
    market.close_gateway().await;
    browser.shows(&["Not connected"]);
    market.open_gateway(true, vec![]).await;
    browser.shows(&["Block ", "No receipt was paid"]);
    drop(browser);
    market.end().await;
}

/// Pictures for people: `DEEPMARKET_SCREENSHOTS=<folder> cargo test … screenshots -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes pictures to look at"]
async fn screenshots() {
    let folder = PathBuf::from(std::env::var_os("DEEPMARKET_SCREENSHOTS").expect("DEEPMARKET_SCREENSHOTS names a folder"));
    std::fs::create_dir_all(&folder).unwrap();
    let scene = Scene::start().await;
    let mut browser = Browser::start();
    let lender = account_of(&scene.lender);
    let pages = [
        ("market", String::new(), "Prices of the day"),
        ("blocks", "blocks".into(), "What it holds"),
        ("block", "block/4".into(), "Proposed by"),
        ("jobs", "jobs".into(), "fashion-cnn"),
        ("job", "job/job-1".into(), "receipt 4 of rank 0"),
        ("waiting", "job/job-2".into(), "Waits for machines"),
        ("machines", "machines".into(), "lab-7"),
        ("machine", format!("machine/{}", machine_of(&scene.machine)), "Measured"),
        ("accounts", "accounts".into(), "Starting credits"),
        ("account", format!("account/{lender}"), "balanced"),
        ("nowhere", "nowhere".into(), "no such page"),
    ];
    for (width, height, scheme) in [(1280, 800, "light"), (1280, 800, "dark"), (390, 844, "light"), (390, 844, "dark")] {
        browser.screen(width, height, scheme);
        for (name, page, expected) in &pages {
            browser.open(&scene.at(page));
            browser.shows(&[expected, "Block "]);
            browser.screenshot(&folder.join(format!("{name}-{width}-{scheme}.png")));
        }
    }
    drop(browser);
    scene.market.end().await;
}
