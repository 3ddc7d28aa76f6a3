use std::io::{Cursor, Write as _};

use deepmarket_dataset::{Options, Task};
use deepmarket_job::{Features, Targets};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::support::{floats, folder, imported, refused};

/// An array as NumPy writes it.
fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn npz(method: CompressionMethod, arrays: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(array).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn an_archive_with_both_splits_becomes_images_and_classes() {
    let x: Vec<u8> = (0..48).collect();
    let (train, test) = (npy("|u1", "3, 2, 4", &x[..24]), npy("|u1", "1, 2, 4", &x[..8]));
    let long = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (y_train, y_test) = (npy("<i8", "3,", &long(&[0, 300, 2])), npy("<i8", "1,", &long(&[7])));
    let arrays: [(&str, &[u8]); 4] = [("x_test", &test), ("x_train", &train), ("y_test", &y_test), ("y_train", &y_train)];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let dir = folder(&[("mnist.npz", &npz(method, &arrays))]);
        let done = imported(dir.path(), &Options::new("npz"));
        let manifest = &done.import.manifest;
        assert_eq!((manifest.shape.as_slice(), &manifest.y), (&[1, 2, 4][..], &Targets::Class { classes: 301 }));
        assert!(matches!(manifest.x, Features::U8 { .. }));
        assert_eq!(done.samples(), (3, 1));
        assert_eq!(done.split(1), [((0..8).collect::<Vec<u8>>(), long(&[7]))], "many classes are numbers of 8 bytes");
    }
}

#[test]
fn files_of_single_arrays_are_split_and_values_of_any_byte_order_are_read() {
    let x: Vec<u8> = (0..10).flat_map(|n| [f64::from(n), -f64::from(n)]).flat_map(f64::to_be_bytes).collect();
    let y: Vec<u8> = (0..10).flat_map(|n| (n as f32 / 2.0).to_le_bytes()).collect();
    let dir = folder(&[("x.npy", &npy(">f8", "10, 2", &x)), ("y.npy", &npy("<f4", "10, 1", &y))]);
    let done = imported(dir.path(), &Options::new("npy"));
    assert_eq!((done.import.manifest.x, &done.import.manifest.y), (Features::F32, &Targets::Values { shape: vec![1] }));
    assert_eq!(done.samples(), (8, 2));
    let mut rows: Vec<Vec<f32>> = done.all().iter().map(|(x, y)| [floats(x), floats(y)].concat()).collect();
    rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
    assert_eq!(rows, (0..10).map(|n| vec![n as f32, -(n as f32), n as f32 / 2.0]).collect::<Vec<_>>());
}

#[test]
fn channels_that_come_last_are_put_first_and_small_signed_numbers_are_read() {
    // One sample of 2 × 2 pixels of three colours, and another.
    let x: Vec<u8> = (0..24).collect();
    let dir = folder(&[("x.npy", &npy("|u1", "2, 2, 2, 3", &x)), ("y.npy", &npy("|i1", "2", &[0, 1]))]);
    let done = imported(dir.path(), &Options::new("rgb"));
    assert_eq!(done.import.manifest.shape, [3, 2, 2]);
    assert_eq!(done.all()[0].0, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
    let values = Options { task: Some(Task::Regression), ..Options::new("rgb") };
    let dir = folder(&[("x.npy", &npy("|u1", "2, 1", &x[..2])), ("y.npy", &npy("|i1", "2,", &[0xff, 5]))]);
    let ys: Vec<f32> = imported(dir.path(), &values).all().iter().map(|(_, y)| floats(y)[0]).collect();
    assert_eq!(ys, [-1.0, 5.0]);
}

#[test]
fn tensors_of_a_safetensors_file_are_read_by_name() {
    let x: Vec<u8> = (0..12).flat_map(|n| (n as f32).to_le_bytes()).collect();
    let header = r#"{"inputs":{"dtype":"F32","shape":[4,3],"data_offsets":[4,52]},"label":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0, 1, 1, 0], &x].concat();
    let dir = folder(&[("set.safetensors", &bytes)]);
    let named = Options { arrays: ("inputs".into(), "label".into()), ..Options::new("tensors") };
    let done = imported(dir.path(), &named);
    assert_eq!((done.import.manifest.shape.as_slice(), &done.import.manifest.y), (&[3][..], &Targets::Class { classes: 2 }));
    let rows: Vec<(f32, u8)> = done.all().iter().map(|(x, y)| (floats(x)[0], y[0])).collect();
    assert_eq!(rows.len(), 4);
    for row in [(0.0, 0), (3.0, 1), (6.0, 1), (9.0, 0)] {
        assert!(rows.contains(&row), "{rows:?}");
    }
    refused(dir.path(), &Options::new("tensors"), 3035, &["'inputs' [4, 3]", "--x"]);
    let dir = folder(&[("set.safetensors", &bytes[..bytes.len() - 1])]);
    refused(dir.path(), &named, 3034, &["array 'inputs'", "within sample 3 of 4"]);
}

#[test]
fn bad_arrays_are_refused_with_their_name_and_what_to_do() {
    let y = npy("|u1", "2,", &[0, 1]);
    let fortran = String::from_utf8_lossy(&npy("<f4", "2, 2", &[])).replace("False", "True ").replace('\u{fffd}', "");
    let fortran = [b"\x93", fortran.as_bytes()].concat();
    for (x, y, says) in [
        (npy("<f4", "2, 1", &[0; 7]), y.clone(), ["array 'x'", "within sample 1 of 2"]),
        (npy("<f4", "3, 1", &[0; 12]), y.clone(), ["array 'y'", "2 samples, and 'x' has 3"]),
        (npy("<c8", "2, 1", &[0; 16]), y.clone(), ["array 'x'", "its type is <c8"]),
        (fortran, y.clone(), ["array 'x'", "column by column"]),
        (b"hello, this is no array".to_vec(), y.clone(), ["array 'x'", "numpy.save"]),
        (npy("<f4", "2, 1", &[0, 0, 0x80, 0x7f, 0, 0, 0, 0]), y.clone(), ["array 'x'", "sample 0 holds inf"]),
        (npy("<f4", "2, 1", &[0; 8]), npy("|i1", "2,", &[0, 0xff]), ["array 'y'", "sample 1 has class -1"]),
        (npy("<f4", "2, 1, 1, 1, 1", &[0; 8]), y.clone(), ["array 'x'", "[2, 1, 1, 1, 1]"]),
        (npy("<f4", "2, 0", &[]), y.clone(), ["", "empty"]),
        (npy("<f4", "", &[0; 4]), y.clone(), ["array 'x'", "the first dimension"]),
    ] {
        let dir = folder(&[("x.npy", &x), ("y.npy", &y)]);
        let Err(error) = crate::support::try_import(&deepmarket_dataset::Input::One(dir.path().into()), &Options::new("x"))
        else {
            panic!("{says:?}")
        };
        assert!(says.iter().all(|part| error.to_string().contains(part)), "{error}");
    }
    let dir = folder(&[("x.npy", &y)]);
    refused(dir.path(), &Options::new("x"), 3034, &["array 'x'", "no partner"]);
    let dir = folder(&[("x.npz", b"PK and then nothing")]);
    refused(dir.path(), &Options::new("x"), 3031, &["x.npz", "archive"]);
    let dir = folder(&[("x.bin", b"what is this")]);
    refused(dir.path(), &Options::new("x"), 3035, &["tells its format", "--format"]);
}
