//! Ready jobs to start from: the examples.

use crate::{job_file, view::Preset};

macro_rules! examples {
    ($($id:literal, $title:literal, $about:literal;)*) => {
        [$(($id, $title, $about, include_str!(concat!("../../examples/", $id, ".toml")))),*]
    };
}

pub fn presets() -> Vec<Preset> {
    let examples = examples! {
        "mnist", "Handwritten digits", "A small convolutional network learns MNIST on two to three machines.";
        "mlp", "Handwritten digits, quickly", "A multilayer perceptron learns MNIST in seconds. Good for a first try.";
        "mnist-local", "Handwritten digits over slow links", "As the first, but workers average after 64 steps of their own.";
        "lenet5", "LeNet-5", "The network of 1998, on MNIST.";
        "resnet-small", "Residual network", "A small residual network on MNIST.";
        "lstm", "Sequences", "An LSTM reads MNIST's images row by row.";
        "char-transformer", "Language", "A small transformer learns a text, byte by byte.";
        "regression", "Regression", "Predicts a value from a table of numbers.";
        "evaluate", "Evaluation", "Evaluates what another job trained: name that job under [model].";
    };
    let preset = |(id, title, about, toml): (&str, &str, &str, &str)| Preset {
        id: id.into(),
        title: title.into(),
        about: about.into(),
        toml: toml.into(),
        dataset: job_file::fields(toml).map(|fields| fields.dataset).unwrap_or_default(),
    };
    examples.into_iter().map(preset).collect()
}
