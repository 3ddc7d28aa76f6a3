//! What the user set.

use std::path::Path;

use crate::{
    error::{Answer, BAD_INPUT},
    home::{read_json, write_json},
    view::{CommandError, Settings, Theme},
};

/// The longest time until the automatic lock, in minutes: a day.
const MAX_LOCK_MINUTES: u32 = 24 * 60;

impl Default for Settings {
    fn default() -> Settings {
        Settings { theme: Theme::System, lock_minutes: 15, hide_amounts: false, notify: true }
    }
}

/// The settings of a file; the defaults where there is none.
pub fn read(path: &Path) -> Settings {
    read_json(path).unwrap_or_default()
}

pub fn write(path: &Path, settings: &Settings) -> Answer {
    if settings.lock_minutes > MAX_LOCK_MINUTES {
        let message = format!("PLUTO can't lock itself after {} minutes", settings.lock_minutes);
        return Err(CommandError::new(BAD_INPUT, message, format!("choose 0 (never) to {MAX_LOCK_MINUTES}")));
    }
    write_json(path, settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_and_a_broken_file_gives_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        assert_eq!(read(&path), Settings::default());
        let set = Settings { theme: Theme::Dark, lock_minutes: 0, hide_amounts: true, notify: false };
        write(&path, &set).unwrap();
        assert_eq!(read(&path), set);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), Settings::default());
        assert!(write(&path, &Settings { lock_minutes: 1441, ..set }).is_err());
    }
}
