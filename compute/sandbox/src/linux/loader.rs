//! Which files the kernel executes when a program is started: itself, and what it names to load or interpret it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

/// A script's interpreter has a loader of its own; scripts of scripts aren't followed further.
const DEPTH: usize = 3;
/// The longest name of a loader.
const LONGEST: u64 = 4096;
/// `PT_INTERP` of elf(5).
const INTERPRETER: u32 = 3;

/// The program, and what it names.
pub(crate) fn executed(program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![program.to_owned()];
    while found.len() < DEPTH {
        let last = &found[found.len() - 1];
        match named(&File::open(last)?)? {
            Some(next) => found.push(next),
            None => break,
        }
    }
    Ok(found)
}

fn named(file: &File) -> io::Result<Option<PathBuf>> {
    let mut head = Vec::new();
    file.take(LONGEST).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = line.split(|byte| byte.is_ascii_whitespace()).find(|word| !word.is_empty());
        return Ok(interpreter.map(path));
    }
    let Some((offset, bytes)) = interpreter(&head) else { return Ok(None) };
    let mut name = vec![0; bytes.min(LONGEST) as usize];
    file.read_exact_at(&mut name, offset)?;
    Ok(Some(path(name.split(|byte| *byte == 0).next().unwrap_or_default())))
}

fn path(bytes: &[u8]) -> PathBuf {
    std::ffi::OsStr::from_bytes(bytes).into()
}

/// Where a 64-bit little-endian ELF file names its loader (offset and length); none in a static program, and in anything else.
fn interpreter(head: &[u8]) -> Option<(u64, u64)> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (u64_at(0x20)?, u16_at(0x36)?, u16_at(0x38)?);
    (0..usize::from(count)).find_map(|index| {
        let at = usize::try_from(table).ok()?.checked_add(index * usize::from(size))?.min(head.len());
        (u32_at(at)? == INTERPRETER).then_some((u64_at(at + 0x08)?, u64_at(at + 0x20)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_a_script_its_interpreter() {
        let this = std::env::current_exe().unwrap();
        let of_this = executed(&this).unwrap();
        assert_eq!(of_this[0], this);
        assert!(of_this[1..].iter().all(|loader| loader.exists() && loader.to_string_lossy().contains("ld-")), "{of_this:?}");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /bin/sh -e\necho\n").unwrap();
        assert_eq!(executed(&script).unwrap()[1], Path::new("/bin/sh"));
        assert!(executed(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn files_that_are_no_program_name_nothing() {
        let mut wrong = b"\x7fELF\x02\x01".to_vec();
        assert_eq!(interpreter(&wrong), None);
        wrong.resize(64, 0xff);
        assert_eq!(interpreter(&wrong), None);
        assert_eq!(interpreter(b""), None);
    }
}
