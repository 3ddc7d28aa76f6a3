//! The window: its size is remembered, and closing it while this computer is lent is asked about.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tauri::{AppHandle, Manager as _, Window, WindowEvent, Wry, plugin::TauriPlugin, webview::WebviewWindowBuilder};
use tauri_plugin_dialog::{DialogExt as _, MessageDialogButtons, MessageDialogKind};
use tauri_plugin_window_state::StateFlags;

use crate::{state::App, view::CommandError};

/// Is the question open whether PLUTO may end? Once is enough.
static ASKS: AtomicBool = AtomicBool::new(false);

/// Remembers the window's size and place; in the folder that was named, where one was.
pub fn memory(home: Option<PathBuf>) -> TauriPlugin<Wry> {
    let flags = StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED;
    let builder = tauri_plugin_window_state::Builder::default().with_state_flags(flags);
    match home.and_then(|home| Some(std::path::absolute(home).ok()?.join("window.json").to_str()?.to_owned())) {
        Some(path) => builder.with_filename(path).build(),
        None => builder.build(),
    }
}

/// Opens it. What the web view keeps lies in the folder that was named, where one was.
pub fn open(handle: &AppHandle, home: Option<PathBuf>) -> tauri::Result<()> {
    let mut window = WebviewWindowBuilder::new(handle, "main", tauri::WebviewUrl::default());
    if let Some(home) = home {
        window = window.data_directory(home.join("webview"));
    }
    window.title("PLUTO").inner_size(1280.0, 800.0).min_inner_size(900.0, 600.0).build()?;
    Ok(())
}

/// Says why PLUTO doesn't start, and ends: at once, so that nothing of the PLUTO that runs is written over.
pub fn refuse(handle: &AppHandle, error: &CommandError) {
    let text = format!("{}: {}", error.message, error.hint);
    eprintln!("{text}");
    if automated() {
        std::process::exit(1);
    }
    handle.dialog().message(text).title("PLUTO").kind(MessageDialogKind::Error).show(|_| std::process::exit(1));
}

/// Native dialogs can't be answered by a test.
fn automated() -> bool {
    std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some()
}

pub fn event(window: &Window, event: &WindowEvent) {
    let WindowEvent::CloseRequested { api, .. } = event else { return };
    let handle = window.app_handle();
    let lending = handle.try_state::<Arc<App>>().is_some_and(|app| app.node.is_lending());
    if !lending || automated() {
        return;
    }
    api.prevent_close();
    if ASKS.swap(true, Ordering::Relaxed) {
        return;
    }
    let buttons = MessageDialogButtons::OkCancelCustom("Stop lending and quit".into(), "Keep PLUTO open".into());
    let question = "Machines are lent from here. They are taken back when PLUTO ends, and work that runs on them stops.";
    let end = handle.clone();
    handle.dialog().message(question).title("Quit PLUTO?").buttons(buttons).show(move |quit| {
        ASKS.store(false, Ordering::Relaxed);
        if quit {
            end.exit(0);
        }
    });
}
