//! Files as other programs write them.

use std::{
    io::{Cursor, Write as _},
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use parquet::{
    basic::{Repetition, Type as Physical},
    data_type::{DoubleType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::seed;

pub fn write() {
    arrays();
    tables();
    images();
    mnist();
}

/// Parts of an input: all but the last stand after their length.
fn parts(first: &[u8], files: &[&[u8]]) -> Vec<u8> {
    let mut input = first.to_vec();
    for (index, file) in files.iter().enumerate() {
        if index + 1 < files.len() {
            input.extend_from_slice(&(file.len() as u16).to_le_bytes());
        }
        input.extend_from_slice(file);
    }
    input
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn arrays() {
    let floats: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let (x, y) = (npy("<f4", "4, 2", &floats), npy("|u1", "4,", &[0, 1, 2, 1]));
    seed("arrays", "npy", &parts(&[0, 0], &[&x, &y]));
    let big: Vec<u8> = (0..8).flat_map(|i| (f64::from(i)).to_be_bytes()).collect();
    seed("arrays", "npy-values", &parts(&[0, 2], &[&npy("|u1", "4, 3, 3, 3", &[7; 108]), &npy(">f8", "4, 2", &big)]));
    for (name, method) in [("npz", CompressionMethod::Stored), ("npz-deflated", CompressionMethod::Deflated)] {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, array) in [("x", &x), ("y", &y)] {
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(format!("{name}.npy"), options).expect("memory");
            zip.write_all(array).expect("memory");
        }
        seed("arrays", name, &parts(&[1, 0], &[&zip.finish().expect("memory").into_inner()]));
    }
    let header =
        br#"{"x":{"dtype":"F32","shape":[4,2],"data_offsets":[0,32]},"y":{"dtype":"U8","shape":[4],"data_offsets":[32,36]}}"#;
    let tensors = [&(header.len() as u64).to_le_bytes()[..], header, &floats, &[0, 1, 2, 1]].concat();
    seed("arrays", "safetensors", &parts(&[2, 0], &[&tensors]));
}

fn tables() {
    let text = b"a;b;y\n1;2.5;cat\n-3;4e2;dog\n5;6;\"cat\"\n";
    seed("table", "classes", &parts(&[0, 1], &[text]));
    seed("table", "packed", &parts(&[1, 1], &[&packed(text)]));
    seed("table", "one-hot", &parts(&[0, 0x42], &[b"colour,size,y\nred,1,10\nblue,2,20\nred,3,30\n"]));
    seed("table", "no-header", &parts(&[0, 0x32], &[b"1,2,3\n4,5,6\n7,8,9\n"]));
    let column = |name: &str, kind: Physical| {
        Arc::new(Type::primitive_type_builder(name, kind).with_repetition(Repetition::REQUIRED).build().expect("a column"))
    };
    let fields = vec![column("a", Physical::INT64), column("y", Physical::DOUBLE)];
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().expect("a schema"));
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(WriterProperties::builder().build())).expect("memory");
    let mut group = writer.next_row_group().expect("memory");
    let mut longs = group.next_column().expect("memory").expect("a column");
    longs.typed::<Int64Type>().write_batch(&[1, 2, 3, 4], None, None).expect("memory");
    longs.close().expect("memory");
    let mut doubles = group.next_column().expect("memory").expect("a column");
    doubles.typed::<DoubleType>().write_batch(&[0.5, 1.5, 2.5, 3.5], None, None).expect("memory");
    doubles.close().expect("memory");
    group.close().expect("memory");
    writer.close().expect("memory");
    seed("table", "parquet", &parts(&[2, 2], &[&file]));
}

fn png(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(vec![0, 0, 0, 255, 255, 255]);
    }
    let line = (colour.samples() * depth as usize * width as usize).div_ceil(8);
    let pixels: Vec<u8> =
        (0..line * height as usize).map(|i| if colour == png::ColorType::Indexed { 0 } else { i as u8 }).collect();
    encoder.write_header().expect("memory").write_image_data(&pixels).expect("memory");
    bytes
}

/// A baseline JPEG of 8 × 8 pixels: quantisation by 1, and Huffman tables of two codes.
fn jpeg(components: u8) -> Vec<u8> {
    let segment = |marker: u8, content: &[u8]| [&[0xff, marker], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat();
    let table = |class: u8, symbols: [u8; 2]| [&[class << 4, 0, 2][..], &[0; 14], &symbols].concat();
    let (mut frame, mut scan) = (vec![8, 0, 8, 0, 8, components], vec![components]);
    for component in 1..=components {
        frame.extend([component, 0x11, 0]);
        scan.extend([component, 0]);
    }
    scan.extend([0, 63, 0]);
    let data: &[u8] = if components == 1 { &[0x24, 0x03] } else { &[0x24, 0x01, 0x13] };
    let quantisation = [&[0][..], &[1; 64]].concat();
    [
        vec![0xff, 0xd8],
        segment(0xdb, &quantisation),
        segment(0xc0, &frame),
        segment(0xc4, &table(0, [10, 0])),
        segment(0xc4, &table(1, [0, 1])),
        segment(0xda, &scan),
        data.to_vec(),
        vec![0xff, 0xd9],
    ]
    .concat()
}

fn images() {
    use png::{BitDepth, ColorType};
    let grey = png(3, 2, ColorType::Grayscale, BitDepth::Eight);
    seed("images", "grey", &parts(&[0], &[&grey, &grey]));
    let (rgba, sixteen) = (png(4, 4, ColorType::Rgba, BitDepth::Eight), png(4, 4, ColorType::Rgb, BitDepth::Sixteen));
    seed("images", "colours", &parts(&[0], &[&rgba, &sixteen]));
    let (indexed, one) = (png(9, 5, ColorType::Indexed, BitDepth::One), png(7, 3, ColorType::Grayscale, BitDepth::One));
    seed("images", "scaled", &parts(&[5], &[&indexed, &one]));
    seed("images", "jpeg", &parts(&[0], &[&jpeg(1), &jpeg(1)]));
    seed("images", "jpeg-colours", &parts(&[1], &[&jpeg(3), &jpeg(3)]));
}

fn mnist() {
    let images =
        |count: u8| [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3][..], &vec![9; usize::from(count) * 6]].concat();
    let labels = |count: u8| [&[0, 0, 8, 1, 0, 0, 0, count][..], &(0..count).collect::<Vec<u8>>()].concat();
    let files = [images(3), labels(3), images(1), labels(1)];
    seed("idx", "plain", &parts(&[0, 0], &files.each_ref().map(Vec::as_slice)));
    seed("idx", "packed", &parts(&[1, 0], &files.each_ref().map(|file| packed(file)).each_ref().map(Vec::as_slice)));
    seed("idx", "text", &parts(&[2, 8], &["a rose is a rose is a rose, said somebody once".as_bytes()]));
}
