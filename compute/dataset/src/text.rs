use std::{io::Read, path::PathBuf};

use crate::{
    Format, ImportError, Input, Options,
    collect::{Collector, Part, X, Y},
    files::{self, Parts},
    idx::fill,
};

/// Tokens are bytes.
const VOCABULARY: u32 = 256;
/// The longest sequence.
const MAX_LENGTH: u32 = 16 * 1024;

/// Reads text as tokens, one a byte. A sample is a window of `length` bytes; its target is the window one byte later. Windows
/// don't overlap. Where the files don't say what is for testing, it is the last tenth of the windows.
pub(crate) fn read(input: &Input, options: &Options) -> Result<Collector, ImportError> {
    let length = options.length;
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(ImportError::unclear(
            format!("sequences can't have {length} tokens"),
            format!("use --length 1 to {MAX_LENGTH}"),
        ));
    }
    let parts = Parts::of(input, Format::Text)?;
    let y = Y::Tokens { vocabulary: VOCABULARY };
    let mut collector = Collector::new(vec![length], X::Tokens { vocabulary: VOCABULARY }, y)?;
    let windows = |files: &[PathBuf]| -> Result<u64, ImportError> {
        let mut count = 0;
        Windows::new(files, length).each(|_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    };
    let all = windows(&parts.whole)?;
    if !parts.whole.is_empty() && all < 2 {
        return Err(ImportError::unclear(
            format!("{} has only {all} whole sequences of {length} bytes, and two are needed", parts.whole[0].display()),
            "bring more text, or use a smaller --length",
        ));
    }
    let training = all - (all / 10).max(1).min(all);
    let mut number = 0;
    Windows::new(&parts.whole, length).each(|x, y| {
        number += 1;
        collector.push(if number <= training { Part::Train } else { Part::Test }, x, y)
    })?;
    for (part, files) in [(Part::Train, &parts.train), (Part::Test, &parts.test)] {
        Windows::new(files, length).each(|x, y| collector.push(part, x, y))?;
    }
    Ok(collector)
}

/// Windows over files, one file after the other; none reaches over a file's end.
struct Windows<'a> {
    files: &'a [PathBuf],
    length: usize,
}

impl Windows<'_> {
    fn new(files: &[PathBuf], length: u32) -> Windows<'_> {
        Windows { files, length: length as usize }
    }

    fn each(&self, mut take: impl FnMut(&[u8], &[u8]) -> Result<(), ImportError>) -> Result<(), ImportError> {
        let tokens = |bytes: &[u8]| -> Vec<u8> { bytes.iter().flat_map(|byte| u16::from(*byte).to_le_bytes()).collect() };
        for path in self.files {
            let mut reader = files::open(path)?;
            let read = |reader: &mut dyn Read, into: &mut [u8]| fill(reader, into).map_err(ImportError::unreadable(path));
            // A window and the byte after it, which is the next window's first.
            let mut window = vec![0; self.length + 1];
            let mut there = read(&mut reader, &mut window[..1])?;
            while there == 1 && read(&mut reader, &mut window[1..])? == self.length {
                take(&tokens(&window[..self.length]), &tokens(&window[1..]))?;
                window[0] = window[self.length];
                there = 1;
            }
        }
        Ok(())
    }
}
