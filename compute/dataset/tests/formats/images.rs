use deepmarket_dataset::{Colour, Options};
use deepmarket_job::Targets;

use crate::support::{folder, imported, refused};

/// A PNG of one colour: grey, RGB or RGBA by the number of channels.
fn png(width: u32, height: u32, pixel: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(match pixel.len() {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixel.repeat((width * height) as usize)).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A baseline JPEG of 8 × 8 pixels of grey 200, with one or three components: quantisation by 1, and Huffman tables of two codes.
fn jpeg(components: u8) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| [&[0xff, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat();
    let table = |class: u8, symbols: [u8; 2]| {
        let mut content = vec![class << 4];
        content.extend([0, 2].iter().chain(&[0; 14]));
        content.extend(symbols);
        content
    };
    let mut frame = vec![8, 0, 8, 0, 8, components];
    let mut scan = vec![components];
    for component in 1..=components {
        frame.extend([component, 0x11, 0]);
        scan.extend([component, 0]);
    }
    scan.extend([0, 63, 0]);
    // DC of (200 - 128) * 8 = 576: code 00, ten bits; end of block: code 00. Chroma: DC 0 (code 01), end of block.
    let bits = match components {
        1 => "00100100000000".to_owned(),
        _ => "00100100000000".to_owned() + "0100" + "0100",
    };
    let padded = format!("{bits:1<width$}", width = bits.len().div_ceil(8) * 8);
    let data: Vec<u8> = (0..padded.len() / 8).map(|i| u8::from_str_radix(&padded[i * 8..i * 8 + 8], 2).unwrap()).collect();
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(0xc0, &frame),
        segment(0xc4, &table(0, [10, 0])),
        segment(0xc4, &table(1, [0, 1])),
        segment(0xda, &scan),
        data,
        vec![0xff, 0xd9],
    ]
    .concat()
}

#[test]
fn folders_of_classes_become_images_in_their_splits() {
    let dir = folder(&[
        ("train/cat/1.png", &png(3, 2, &[10])),
        ("train/cat/2.png", &png(3, 2, &[20])),
        ("train/dog/1.png", &png(3, 2, &[30])),
        ("test/dog/9.png", &png(3, 2, &[40])),
        ("README.md", b"about pets"),
    ]);
    let done = imported(dir.path(), &Options::new("pets"));
    assert_eq!(done.import.manifest.shape, [1, 2, 3]);
    assert_eq!(
        (done.import.manifest.y.clone(), &done.import.classes),
        (Targets::Class { classes: 2 }, &vec!["cat".into(), "dog".into()])
    );
    assert_eq!(done.samples(), (3, 1));
    let all: Vec<(u8, u8)> = done.all().iter().map(|(x, y)| (x[0], y[0])).collect();
    assert_eq!(all, [(10, 0), (20, 0), (30, 1), (40, 1)]);
}

#[test]
fn colours_become_planes_and_folders_without_splits_are_split() {
    let red = png(2, 1, &[200, 0, 0, 128]);
    let files: Vec<(String, &[u8])> = (0..10).map(|n| (format!("{}/{n}.png", ["a", "b"][n % 2]), red.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let dir = folder(&files);
    let done = imported(dir.path(), &Options::new("red"));
    assert_eq!((done.import.manifest.shape.as_slice(), done.samples()), (&[3, 1, 2][..], (8, 2)));
    assert_eq!(done.all()[0].0, [200, 200, 0, 0, 0, 0]);
    let grey = imported(dir.path(), &Options { colour: Some(Colour::Grey), ..Options::new("red") });
    assert_eq!(grey.all()[0].0, [60, 60], "luma of 200 red");
    let large = imported(dir.path(), &Options { resize: Some((5, 4)), ..Options::new("red") });
    assert_eq!(large.import.manifest.shape, [3, 4, 5]);
    assert_eq!(large.all()[0].0[..20], [200; 20], "a surface of one colour keeps it");
}

#[test]
fn jpeg_images_are_read_grey_or_in_colours() {
    let dir = folder(&[("a/1.jpg", &jpeg(1)), ("b/1.jpeg", &png(8, 8, &[200]))]);
    let done = imported(dir.path(), &Options::new("grey"));
    assert_eq!(done.import.manifest.shape, [1, 8, 8]);
    assert!(done.all().iter().all(|(x, _)| *x == [200; 64]));
    let dir = folder(&[("a/1.jpg", &jpeg(3)), ("b/1.jpg", &jpeg(3))]);
    let done = imported(dir.path(), &Options::new("colour"));
    assert_eq!(done.import.manifest.shape, [3, 8, 8]);
    assert!(done.all().iter().all(|(x, _)| x.iter().all(|value| value.abs_diff(200) <= 1)));
}

#[test]
fn images_that_dont_fit_are_refused_with_the_file_and_what_to_do() {
    let (small, large) = (png(2, 2, &[1]), png(3, 3, &[1]));
    let dir = folder(&[("a/1.png", &small), ("b/1.png", &large)]);
    refused(dir.path(), &Options::new("x"), 3034, &["b/1.png", "3 x 3", "--resize 2x2"]);
    let dir = folder(&[("a/1.png", &small), ("b/1.png", &png(2, 2, &[1, 2, 3]))]);
    refused(dir.path(), &Options::new("x"), 3034, &["b/1.png", "colours", "--colour"]);
    let dir = folder(&[("a/1.png", &small), ("b/1.png", &small[..40])]);
    refused(dir.path(), &Options::new("x"), 3031, &["b/1.png"]);
    let dir = folder(&[("a/1.png", &small), ("b/1.png", b"GIF89a")]);
    refused(dir.path(), &Options::new("x"), 3031, &["b/1.png", "neither a PNG nor a JPEG"]);
    let dir = folder(&[("a/1.png", &small), ("2.png", &small)]);
    refused(dir.path(), &Options::new("x"), 3034, &["2.png", "no folder of a class"]);
    let dir = folder(&[("a/1.png", &small)]);
    refused(dir.path(), &Options::new("x"), 3035, &["1 folders of classes"]);
    let dir = folder(&[("train/a/1.png", &small), ("train/b/1.png", &small), ("test/c/1.png", &small)]);
    refused(dir.path(), &Options::new("x"), 3034, &["test/c", "no images for training"]);
}
