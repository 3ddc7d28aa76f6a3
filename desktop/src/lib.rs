//! PLUTO: DeepMarket's desktop wallet.
//!
//! ```text
//! page (ui/) ◀─ commands, channels ─▶ commands/ ─▶ state ─▶ the wallet crate ─▶ REST client ─▶ a market
//!                                        │           └─ live, follow: tell what happens
//!                                        └─▶ node ─▶ child ─▶ the program `deepmarket` (lends, measures, evaluates)
//! ```
//!
//! Keys never leave Rust, and are in memory only while the wallet is unlocked. Money is never a float. The page is told texts
//! and numbers to show; what it asks for is checked here.

mod child;
mod commands;
mod connection;
mod convert;
mod error;
mod follow;
mod home;
mod job_file;
mod live;
mod machine_folder;
mod markets;
mod node;
mod notices;
mod presets;
mod secret;
mod settings;
mod state;
mod usage;
mod view;
mod window;

use std::{path::PathBuf, sync::Arc, time::Duration};

use commands::{account, jobs, machines, market, wallet};
use home::Home;
use node::Of;
use notices::notice;
use state::App;
use tauri::{AppHandle, Manager as _, RunEvent};
use tokio::signal::unix::{SignalKind, signal};
use view::{Live, Tone};

/// How often the automatic lock and the end of a pause are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A pause that ends so long after its time ends late.
const LATE_MS: u64 = 60_000;

/// Opens the window, and returns when PLUTO ends.
pub fn run() {
    let app = tauri::Builder::default()
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(window::memory(named_home()))
        .setup(|tauri| Ok(setup(tauri.handle())?))
        .on_window_event(window::event)
        .invoke_handler(tauri::generate_handler![
            market::start,
            market::find_market,
            market::choose_market,
            market::set_settings,
            market::still_here,
            market::watch,
            wallet::new_words,
            wallet::create_account,
            wallet::restore_account,
            wallet::import_key,
            wallet::open_account,
            wallet::unlock,
            wallet::lock,
            wallet::change_password,
            wallet::show_words,
            wallet::export_key,
            account::history,
            account::export_history,
            account::transaction,
            account::receipts,
            account::statement,
            account::transfer,
            machines::last_measured,
            machines::verify,
            machines::evaluate,
            machines::lend,
            machines::start_node,
            machines::stop_node,
            machines::pause,
            machines::resume,
            machines::invite,
            machines::lend_over_ssh,
            machines::stop_ssh,
            machines::change_offer,
            machines::withdraw,
            jobs::presets,
            jobs::datasets,
            jobs::import_dataset,
            jobs::check_job,
            jobs::edit_job,
            jobs::submit_job,
            jobs::cancel_job,
            jobs::watch_job,
            jobs::unwatch_job,
            jobs::save_result,
            jobs::evaluate_result,
            jobs::verification,
        ])
        .build(tauri::generate_context!());
    match app {
        Ok(app) => app.run(|handle, event| {
            if let RunEvent::Exit = event {
                end(handle);
            }
        }),
        Err(error) => {
            eprintln!("PLUTO can't start: {error}");
            std::process::exit(1);
        }
    }
}

/// The folder that the environment names, for tests and for several PLUTOs side by side.
fn named_home() -> Option<PathBuf> {
    std::env::var_os("PLUTO_HOME").map(PathBuf::from)
}

fn setup(handle: &AppHandle) -> tauri::Result<()> {
    let folder = match named_home() {
        Some(folder) => folder,
        None => handle.path().app_data_dir()?,
    };
    let preselected = std::env::var("DEEPMARKET_GATEWAY").ok().and_then(|gateways| gateways.split(',').next().map(str::to_owned));
    match Home::open(folder) {
        Ok(home) => {
            let app = Arc::new(App::new(home, preselected.filter(|gateway| !gateway.trim().is_empty())));
            handle.manage(app.clone());
            window::open(handle, named_home())?;
            tauri::async_runtime::spawn(lock_in_time(app.clone()));
            tauri::async_runtime::spawn(end_pauses(handle.clone(), app));
            tauri::async_runtime::spawn(end_in_good_order(handle.clone()));
        }
        Err(error) => window::refuse(handle, &error),
    }
    Ok(())
}

/// Locks where nobody is there. Nothing that may take long delays it.
async fn lock_in_time(app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        app.lock_if_alone();
    }
}

/// The end of the desktop's session, or Ctrl-C in a terminal, is not the end of good manners: lent machines are taken back.
async fn end_in_good_order(handle: AppHandle) {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let Ok(mut signals) = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>() else { return };
    futures::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    handle.exit(0);
}

/// Goes on with lending where a pause is over: at once, or as soon as the wallet is unlocked.
async fn end_pauses(handle: AppHandle, app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let (Ok(session), Ok(market)) = (app.session(), app.market()) else { continue };
        let of = Of { home: &app.home, market: &market, session: &session };
        let Some((paused, outcome)) = app.node.end_pause(of).await else { continue };
        let told = match outcome {
            Ok(()) if node::now().saturating_sub(paused.until) > LATE_MS => {
                let why = "Its pause was over before, but the wallet was locked, or the market did not answer.";
                notice(Tone::Info, "This computer is lent again", why)
            }
            Ok(()) => notice(Tone::Info, "This computer is lent again", "Its pause is over."),
            Err(error) if node::is_worth_a_try(&error) => {
                drop(session);
                tokio::time::sleep(LOOK * 10).await;
                continue;
            }
            Err(error) => notice(Tone::Warning, "This computer stays paused", error.message),
        };
        if app.settings().notify {
            live::native(&handle, &told);
        }
        app.tell(Live::Notice(told));
    }
}

/// Ends everything that was started.
fn end(handle: &AppHandle) {
    let Some(app) = handle.try_state::<Arc<App>>() else { return };
    tauri::async_runtime::block_on(async {
        let (session, market) = (app.session().ok(), app.market().ok());
        let of = session.as_ref().zip(market.as_ref()).map(|(session, market)| Of { home: &app.home, market, session });
        futures::future::join(app.node.shut_down(of), app.runs.end()).await;
    });
    app.lock();
}
