use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _},
    path::Path,
};

use zune_core::{colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use crate::{Colour, ImportError};

/// The largest side of an image in pixels.
const MAX_SIDE: u32 = 16_384;
/// The most bytes that a decoder takes.
const MAX_BYTES: usize = 1 << 30;

/// An image: grey or red, green and blue, 8 bits each, row by row.
pub(super) struct Image {
    pub width: u32,
    pub height: u32,
    pub colour: Colour,
    pub pixels: Vec<u8>,
}

/// Decodes a PNG or JPEG file, whatever its name. Transparency is dropped, 16 bits become 8, palettes become colours.
pub(super) fn decode(path: &Path) -> Result<Image, ImportError> {
    let mut file = BufReader::new(File::open(path).map_err(ImportError::unreadable(path))?);
    let mut start = [0; 8];
    let got = crate::idx::fill(&mut file.by_ref().take(8), &mut start).map_err(ImportError::unreadable(path))?;
    file.rewind().map_err(ImportError::unreadable(path))?;
    let malformed = |why: String| ImportError::Malformed { path: path.to_owned(), why };
    match &start[..got] {
        [0x89, b'P', b'N', b'G', ..] => decode_png(file).map_err(malformed),
        [0xff, 0xd8, ..] => decode_jpeg(file).map_err(malformed),
        _ => Err(malformed("it is neither a PNG nor a JPEG image".into())),
    }
}

fn decode_png(file: BufReader<File>) -> Result<Image, String> {
    let mut decoder = png::Decoder::new_with_limits(file, png::Limits { bytes: MAX_BYTES });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (width, height) = reader.info().size();
    check_sides(width, height)?;
    let bytes = reader.output_buffer_size().filter(|bytes| *bytes <= MAX_BYTES).ok_or("it is too large")?;
    let mut buffer = vec![0; bytes];
    let frame = reader.next_frame(&mut buffer).map_err(|e| e.to_string())?;
    buffer.truncate(frame.buffer_size());
    let (colour, samples) = match frame.color_type {
        png::ColorType::Grayscale => (Colour::Grey, 1),
        png::ColorType::GrayscaleAlpha => (Colour::Grey, 2),
        png::ColorType::Rgb => (Colour::Rgb, 3),
        png::ColorType::Rgba => (Colour::Rgb, 4),
        png::ColorType::Indexed => return Err("its palette can't be read".into()),
    };
    let own = colour.channels() as usize;
    let pixels = match samples == own {
        true => buffer,
        false => buffer.chunks_exact(samples).flat_map(|pixel| &pixel[..own]).copied().collect(),
    };
    Ok(Image { width, height, colour, pixels })
}

fn decode_jpeg(file: BufReader<File>) -> Result<Image, String> {
    let side = MAX_SIDE as usize;
    let options = DecoderOptions::default().set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(file, options);
    decoder.decode_headers().map_err(|e| e.to_string())?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (colour, space) = if grey { (Colour::Grey, ColorSpace::Luma) } else { (Colour::Rgb, ColorSpace::RGB) };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("it has no size")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_sides(width, height)?;
    if pixels.len() != width as usize * height as usize * colour.channels() as usize {
        return Err("its pixels don't fill its size".into());
    }
    Ok(Image { width, height, colour, pixels })
}

fn check_sides(width: u32, height: u32) -> Result<(), String> {
    match [width, height].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        true => Ok(()),
        false => Err(format!("it has {width} x {height} pixels; a side has 1 to {MAX_SIDE}")),
    }
}

/// Scales an image: each new pixel is the mean of the old ones that it covers, weighted by how much, in whole numbers.
pub(super) fn resize(image: &Image, width: u32, height: u32) -> Image {
    if (width, height) == (image.width, image.height) {
        return Image { pixels: image.pixels.clone(), ..*image };
    }
    let channels = image.colour.channels() as usize;
    let (columns, rows) = (cover(image.width, width), cover(image.height, height));
    let area = u64::from(image.width) * u64::from(image.height);
    let mut pixels = Vec::with_capacity(width as usize * height as usize * channels);
    for row in &rows {
        for column in &columns {
            for channel in 0..channels {
                let mut sum = 0;
                for (y, tall) in row {
                    for (x, wide) in column {
                        let at = (*y as usize * image.width as usize + *x as usize) * channels + channel;
                        sum += u64::from(image.pixels[at]) * tall * wide;
                    }
                }
                pixels.push(((sum + area / 2) / area) as u8);
            }
        }
    }
    Image { width, height, colour: image.colour, pixels }
}

/// For each of `new` places the `old` ones that it covers, with weights that add up to `old`.
fn cover(old: u32, new: u32) -> Vec<Vec<(u32, u64)>> {
    let (old_length, new_length) = (u64::from(new), u64::from(old));
    (0..u64::from(new))
        .map(|place| {
            let (start, end) = (place * new_length, (place + 1) * new_length);
            let covered = start / old_length..end.div_ceil(old_length);
            covered.map(|cell| (cell as u32, end.min((cell + 1) * old_length) - start.max(cell * old_length))).collect()
        })
        .collect()
}
