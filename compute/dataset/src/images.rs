//! Folders of images: `train/cat/1.png`, `test/dog/7.jpg`, or without splits `cat/1.png`.

mod decode;

use std::path::{Path, PathBuf};

use crate::{
    Colour, Format, ImportError, Input, Options,
    collect::{Chooser, Collector, Part, X, Y},
    files::{self, part_of_name},
    images::decode::{Image, decode, resize},
};

/// The most classes.
const MAX_CLASSES: usize = 65_536;

/// What a folder of images gives beside its samples.
pub(crate) struct Images {
    pub collector: Collector,
    /// The classes' names in order of their numbers.
    pub classes: Vec<String>,
}

/// An image's file, its class and split.
struct Listed {
    path: PathBuf,
    class: u32,
    part: Option<Part>,
}

/// Reads a folder of images.
pub(crate) fn read(input: &Input, options: &Options) -> Result<Images, ImportError> {
    let (classes, listed) = listed(input)?;
    let first = decode(&listed[0].path)?;
    let colour = options.colour.unwrap_or(first.colour);
    let (width, height) = options.resize.unwrap_or((first.width, first.height));
    let y = Y::Class { at_least: classes.len() as u32 };
    let mut collector = Collector::new(vec![colour.channels(), height, width], X::Bytes, y)?;
    let whole = listed.iter().filter(|image| image.part.is_none()).count();
    let mut chooser = Chooser::new(options, whole as u64);
    for item in &listed {
        let image = decode(&item.path)?;
        if options.colour.is_none() && colour == Colour::Grey && image.colour == Colour::Rgb {
            return Err(content(&item.path, "it has colours, and the first image is grey", "say --colour rgb or --colour grey"));
        }
        let image = match options.resize {
            Some((width, height)) => resize(&image, width, height),
            None if (image.width, image.height) == (width, height) => image,
            None => {
                let why = format!("it has {} x {} pixels, and the first image {width} x {height}", image.width, image.height);
                return Err(content(&item.path, why, format!("scale all with --resize {width}x{height}")));
            }
        };
        let part = item.part.unwrap_or_else(|| chooser.next());
        collector.push(part, &planes(&image, colour), &item.class.to_le_bytes())?;
    }
    Ok(Images { collector, classes })
}

fn content(path: &Path, why: impl Into<String>, hint: impl Into<String>) -> ImportError {
    ImportError::Content { path: path.to_owned(), place: "the image".into(), why: why.into(), hint: hint.into() }
}

/// The classes' names in order, and all images: split by split, class by class, by name.
fn listed(input: &Input) -> Result<(Vec<String>, Vec<Listed>), ImportError> {
    let roots: Vec<(Option<Part>, PathBuf)> = match input {
        Input::Two { train, test } => vec![(Some(Part::Train), train.clone()), (Some(Part::Test), test.clone())],
        Input::One(root) => {
            let folders = files::entries(root)?.into_iter().filter(|path| path.is_dir());
            let named = |path: PathBuf| Some((Some(part_of_name(&files::name_of(&path).to_ascii_lowercase())?), path));
            let mut of_split: Vec<_> = folders.filter_map(named).collect();
            of_split.sort_by_key(|(part, _)| *part == Some(Part::Test));
            if of_split.is_empty() { vec![(None, root.clone())] } else { of_split }
        }
    };
    let mut found: Vec<(String, PathBuf, Option<Part>)> = Vec::new();
    let mut classes: Vec<String> = Vec::new();
    for (part, root) in &roots {
        for folder in files::entries(root)? {
            if !folder.is_dir() {
                if Format::of_name(&files::name_of(&folder)) == Some(Format::Images) {
                    return Err(content(
                        &folder,
                        "it is in no folder of a class",
                        "put each class's images into a folder of its name",
                    ));
                }
                continue;
            }
            let class = files::name_of(&folder);
            let images =
                files::list(&folder)?.into_iter().filter(|file| Format::of_name(&files::name_of(file)) == Some(Format::Images));
            let before = found.len();
            found.extend(images.map(|path| (class.clone(), path, *part)));
            if found.len() == before {
                return Err(content(&folder, "the folder holds no PNG or JPEG image", "fill it, or remove it"));
            }
            if *part == Some(Part::Test) && roots.iter().any(|(part, _)| *part == Some(Part::Train)) && !classes.contains(&class)
            {
                return Err(content(
                    &folder,
                    format!("class '{class}' has no images for training"),
                    "add some, or remove the folder",
                ));
            }
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        // Training comes first: the classes are its.
        classes.sort();
    }
    if !(2..=MAX_CLASSES).contains(&classes.len()) {
        let where_ = roots.iter().map(|(_, root)| root.display().to_string()).collect::<Vec<_>>().join(" and ");
        return Err(ImportError::unclear(
            format!("{where_} has {} folders of classes, and 2 to {MAX_CLASSES} are needed", classes.len()),
            "sort the images into a folder for each class: train/CLASS/*.png",
        ));
    }
    let number = |class: &String| classes.binary_search(class).expect("the class was listed") as u32;
    let images = found.into_iter().map(|(class, path, part)| Listed { class: number(&class), path, part }).collect();
    Ok((classes, images))
}

/// An image's channels one after the other.
fn planes(image: &Image, colour: Colour) -> Vec<u8> {
    let pixels = || image.pixels.chunks_exact(image.colour.channels() as usize);
    match (image.colour, colour) {
        (Colour::Grey, Colour::Grey) => image.pixels.clone(),
        (Colour::Grey, Colour::Rgb) => image.pixels.repeat(3),
        (Colour::Rgb, Colour::Rgb) => (0..3).flat_map(|channel| pixels().map(move |pixel| pixel[channel])).collect(),
        // Luma of ITU-R BT.601, in whole numbers.
        (Colour::Rgb, Colour::Grey) => pixels()
            .map(|p| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114 + 500) / 1000) as u8)
            .collect(),
    }
}
