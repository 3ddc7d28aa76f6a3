use deepmarket_dataset::{Generator, Options, generate};
use deepmarket_job::{Features, Targets};

use crate::support::{folder, imported, refused};

#[test]
fn text_becomes_windows_of_bytes_and_the_windows_one_byte_later() {
    let text: Vec<u8> = (0..205_u8).collect();
    let dir = folder(&[("book.txt", &text)]);
    let done = imported(dir.path(), &Options { length: 10, ..Options::new("book") });
    let manifest = &done.import.manifest;
    assert_eq!((manifest.shape.as_slice(), manifest.x), (&[10][..], Features::Tokens { vocabulary: 256 }));
    assert_eq!(manifest.y, Targets::Tokens { vocabulary: 256 });
    assert_eq!(done.samples(), (18, 2), "the last tenth is for testing");
    let tokens = |bytes: &[u8]| bytes.as_chunks::<2>().0.iter().map(|two| u16::from_le_bytes(*two)).collect::<Vec<_>>();
    for (number, (x, y)) in done.all().iter().enumerate() {
        let first = number as u16 * 10;
        assert_eq!(tokens(x), (first..first + 10).collect::<Vec<_>>());
        assert_eq!(tokens(y), (first + 1..first + 11).collect::<Vec<_>>());
    }
    let test: Vec<u16> = done.split(1).iter().map(|(x, _)| tokens(x)[0]).collect();
    assert_eq!(test, [180, 190]);
}

#[test]
fn text_that_is_too_short_is_refused_with_what_to_do() {
    let dir = folder(&[("book.txt", b"once upon a time")]);
    refused(dir.path(), &Options::new("book"), 3035, &["0 whole sequences of 128 bytes", "--length"]);
    refused(dir.path(), &Options { length: 0, ..Options::new("book") }, 3035, &["0 tokens"]);
}

#[test]
fn made_up_data_is_the_same_for_the_same_seed_and_another_for_another() {
    for kind in [Generator::Digits, Generator::Regression, Generator::Text] {
        let made = |seed: u64| {
            let mut shards = Vec::new();
            let options = Options { seed, ..Options::new("made-up") };
            let import = generate(kind, 500, &options, &mut |hash, bytes| {
                shards.push((hash, bytes));
                Ok(())
            })
            .unwrap();
            (import, shards)
        };
        let (import, shards) = made(1);
        assert_eq!((import.manifest.splits[0].samples, import.manifest.splits[1].samples), (400, 100), "{kind:?}");
        assert_eq!((&import, &shards), (&made(1).0, &made(1).1));
        assert_ne!(shards, made(2).1);
        assert_eq!(import.manifest.check(), Ok(()));
    }
}
