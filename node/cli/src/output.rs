use std::io::IsTerminal as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use console::Term;
pub use deepmarket_wallet::words::{aligned, bytes, credits, duration, permille, time};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    args::Args,
    error::{Failure, Outcome},
    verbs::job::record::Canvas,
};

/// Columns of a picture where standard output is no terminal.
const DEFAULT_WIDTH: usize = 80;

/// Logs go to standard error; `RUST_LOG` overrides what `-v` chooses.
pub fn start_logging(args: &Args) {
    let own = match args.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default_filter(own)));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}

/// Our own crates at one level, engines at theirs.
fn default_filter(own: &str) -> String {
    let crates = ["cli", "consensus", "engine", "gateway", "ledger", "net", "store", "worker"];
    let ours: Vec<String> = crates.iter().map(|name| format!("deepmarket_{name}={own}")).collect();
    format!("warn,{},{}", deepmarket_consensus::ENGINE_LOG_FILTER, ours.join(","))
}

/// How a verb shows its result.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Prints the value as JSON with `--json`, else what `text` gives.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Outcome {
        if self.json {
            let json = serde_json::to_string_pretty(value).map_err(Failure::bug)?;
            println!("{json}");
        } else {
            println!("{}", text().trim_end());
        }
        Ok(())
    }

    /// Is JSON wanted on standard output?
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// What pictures are drawn on: as wide as the terminal, in plain characters where the locale isn't UTF-8.
    pub fn canvas(&self) -> Canvas {
        let width = Term::stdout().size_checked().map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns));
        Canvas { width, unicode: locale_is_utf8(|name| std::env::var(name).ok()) }
    }

    /// A progress bar over bytes, on standard error.
    pub fn bytes_bar(&self, what: &str, total: u64) -> ProgressBar {
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        let style = ProgressStyle::with_template("{msg:18} {bar:40} {bytes:>10} of {total_bytes}").expect("a fixed template");
        bar.with_style(style)
    }

    /// A line of progress for people; on standard error, so that `--json` output stays clean.
    pub fn say(&self, line: impl std::fmt::Display) {
        eprintln!("{line}");
    }

    /// The next useful command.
    pub fn next(&self, hint: impl std::fmt::Display) {
        if !self.json {
            eprintln!("next: {hint}");
        }
    }
}

/// Is text in UTF-8? The first of these variables that is set decides (POSIX, section 8.2).
fn locale_is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    set.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A table with a header; columns named in `right` are aligned right.
pub fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(Cell::new));
    for row in rows {
        table.add_row(row);
    }
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_which_characters_may_be_drawn() {
        let set = |name: &'static str, value: &'static str| move |wanted: &str| (wanted == name).then(|| value.to_owned());
        assert!(locale_is_utf8(set("LANG", "de_DE.UTF-8")) && locale_is_utf8(set("LC_ALL", "C.utf8")));
        assert!(!locale_is_utf8(set("LANG", "C")) && !locale_is_utf8(|_| None));
        assert!(!locale_is_utf8(|name| Some(if name == "LC_ALL" { "C" } else { "en_US.UTF-8" }.to_owned())));
        assert!(locale_is_utf8(|name| Some(if name == "LC_ALL" { "" } else { "en_US.UTF-8" }.to_owned())));
    }
}
