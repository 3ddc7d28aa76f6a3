//! Reads a job file's section `[model]`: layers with their names, or a preset that stands for layers.

use deepmarket_types::Hash;

use crate::{
    Decimal, Layer, MAX_LAYERS, Model, Named, Positions, SpecError,
    SpecProblem::{BadValue, Missing, UnknownModel},
    presets,
    read::{Name, Resolve},
    spec::defaults,
    toml_tree::{Node, Table},
};

/// The most numbers of a list that are read; more are never right, and the check says so.
const MAX_LIST: usize = 32;

pub(crate) fn model(root: &Table, resolve: Resolve) -> Result<Model, SpecError> {
    let example = "a section [model] with input and layers";
    let table = root.required("model", example)?.table(&["input", "layers", "preset", "parameters"])?;
    let input = numbers(&table.required("input", "the shape of a sample, for example input = [1, 28, 28]")?)?;
    let mut model = match (table.optional("preset"), table.optional("layers")) {
        (Some(preset), Some(_)) => {
            let found = "a preset stands for layers, and there are layers too";
            return Err(preset.error(BadValue, found, "remove one of the two"));
        }
        (Some(node), None) => preset(&node, input)?,
        (None, _) => {
            let example = "the layers, for example layers = [ { flatten = {} }, { linear = { out = 10 } } ], or a preset";
            layers(&table.required("layers", example)?, input)?
        }
    };
    model.parameters = table.optional("parameters").map(|node| parameters(&node, resolve)).transpose()?;
    Ok(model)
}

fn numbers(node: &Node) -> Result<Vec<u32>, SpecError> {
    node.list()?.iter().take(MAX_LIST).map(Node::u32).collect()
}

fn parameters(node: &Node, resolve: Resolve) -> Result<Hash, SpecError> {
    let text = node.text()?;
    if text.starts_with("blake3:") {
        return text.parse().map_err(|e| node.error(BadValue, format!("{e}"), "copy the hash that `deepmarket job show` tells"));
    }
    let hint = "write an earlier job, for example \"job-12\", or the hash of its result, blake3:…";
    match text.starts_with("job-").then(|| text.parse()) {
        Some(Ok(job)) => resolve(Name::Job(job)).ok_or_else(|| {
            let found = format!("{job} has no result here");
            node.error(UnknownModel, found, "see `deepmarket job ls` for jobs that have finished")
        }),
        _ => Err(node.error(BadValue, "this is no job and no hash", hint)),
    }
}

fn layers(node: &Node, input: Vec<u32>) -> Result<Model, SpecError> {
    let nodes = node.list()?;
    if nodes.len() > MAX_LAYERS {
        return Err(node.error(BadValue, format!("there are {} layers", nodes.len()), format!("use 1 to {MAX_LAYERS}")));
    }
    let mut model = Model::stack(input, Vec::new());
    for (index, node) in (0..).zip(&nodes) {
        let (layer, name) = layer(node)?;
        if let Some(name) = name {
            model.names.push(Named { name: name.text()?.to_owned(), layer: index });
        }
        model.layers.push(layer);
    }
    Ok(model)
}

fn preset(node: &Node, input: Vec<u32>) -> Result<Model, SpecError> {
    let (name, options) = node.choice(presets::NAMES, "\"lenet5\" or { mlp = { hidden = [128], out = 10 } }")?;
    let table = |known: &'static [&'static str]| options.as_ref().map(|options| options.table(known)).transpose();
    let number = |table: &Option<Table>, key: &str, default| {
        table.as_ref().and_then(|table| table.optional(key)).map_or(Ok(default), |node| node.u32())
    };
    match name {
        "mlp" => {
            let table = table(&["hidden", "out"])?;
            let hidden = table.as_ref().and_then(|table| table.optional("hidden"));
            let hidden = hidden.map_or(Ok(vec![presets::MLP_HIDDEN]), |node| numbers(&node))?;
            Ok(presets::mlp(input, &hidden, number(&table, "out", presets::OUT)?))
        }
        "lenet5" => {
            let table = table(&["out"])?;
            Ok(presets::lenet5(input, number(&table, "out", presets::OUT)?))
        }
        "resnet-small" => {
            let table = table(&["width", "blocks", "out"])?;
            let width = number(&table, "width", presets::RESNET_WIDTH)?;
            let blocks = number(&table, "blocks", presets::RESNET_BLOCKS)?;
            Ok(presets::resnet_small(input, width, blocks, number(&table, "out", presets::OUT)?))
        }
        _ => {
            let table = table(&["vocabulary", "features", "heads", "blocks", "dropout"])?;
            let dropout = table.as_ref().map_or(Ok(Decimal::ZERO), |table| table.decimal_or("dropout", Decimal::ZERO))?;
            let options = presets::CharTransformer {
                vocabulary: number(&table, "vocabulary", presets::BYTES)?,
                features: number(&table, "features", presets::FEATURES)?,
                heads: number(&table, "heads", presets::HEADS)?,
                blocks: number(&table, "blocks", presets::BLOCKS)?,
                dropout,
            };
            Ok(presets::char_transformer(input, options))
        }
    }
}

const LAYERS: &[&str] = &[
    "linear",
    "conv2d",
    "conv1d",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool",
    "global_max_pool",
    "last",
    "batch_norm",
    "layer_norm",
    "dropout",
    "flatten",
    "reshape",
    "relu",
    "gelu",
    "sigmoid",
    "tanh",
    "softmax",
    "embedding",
    "position_embedding",
    "lstm",
    "gru",
    "attention",
    "transformer_encoder",
    "add",
    "concat",
    "take",
];

/// A layer, and the node of its name if it has one.
fn layer<'a>(node: &Node<'a>) -> Result<(Layer, Option<Node<'a>>), SpecError> {
    let (name, options, own_name) = node.choice_beside("name", LAYERS, "{ relu = {} } or { linear = { out = 10 } }")?;
    let optional = |known: &'static [&'static str]| options.as_ref().map(|options| options.table(known)).transpose();
    let table = |known: &'static [&'static str], example: &str| {
        let missing = || node.error(Missing, format!("{name} needs options"), format!("write {{ {name} = {example} }}"));
        optional(known)?.ok_or_else(missing)
    };
    let plain = |layer| optional(&[]).map(|_| layer);
    let pool = || {
        let table = table(&["kernel", "stride", "padding"], "{ kernel = 2 }")?;
        let kernel = table.required("kernel", "the side of the window, for example kernel = 2")?.u32()?;
        Ok((kernel, table.u32_or("stride", kernel)?, table.u32_or("padding", 0)?))
    };
    let convolution = || {
        let table = table(&["out", "kernel", "stride", "padding"], "{ out = 16, kernel = 3, padding = 1 }")?;
        let out = table.required("out", "the number of output channels, for example out = 16")?.u32()?;
        let kernel = table.required("kernel", "the side of the kernel, for example kernel = 3")?.u32()?;
        Ok((out, kernel, table.u32_or("stride", 1)?, table.u32_or("padding", 0)?))
    };
    let recurrent = || {
        let table = table(&["hidden", "return_sequence"], "{ hidden = 64 }")?;
        let hidden = table.required("hidden", "the features of its state, for example hidden = 64")?.u32()?;
        Ok((hidden, table.flag_or("return_sequence", true)?))
    };
    let with = || {
        let node =
            table(&["with"], "{ with = [\"a\"] }")?.required("with", "names of earlier layers, for example with = [\"a\"]")?;
        node.list()?.iter().take(MAX_LIST).map(|name| Ok(name.text()?.to_owned())).collect::<Result<_, SpecError>>()
    };
    let heads = |table: &Table| table.required("heads", "the number of heads, for example heads = 4")?.u32();
    let layer = match name {
        "linear" => {
            let table = table(&["out"], "{ out = 10 }")?;
            Layer::Linear { out: table.required("out", "the number of outputs, for example out = 10")?.u32()? }
        }
        "conv2d" => convolution().map(|(out, kernel, stride, padding)| Layer::Conv2d { out, kernel, stride, padding })?,
        "conv1d" => convolution().map(|(out, kernel, stride, padding)| Layer::Conv1d { out, kernel, stride, padding })?,
        "max_pool2d" => pool().map(|(kernel, stride, padding)| Layer::MaxPool2d { kernel, stride, padding })?,
        "avg_pool2d" => pool().map(|(kernel, stride, padding)| Layer::AvgPool2d { kernel, stride, padding })?,
        "batch_norm" => {
            let table = optional(&["momentum", "epsilon"])?;
            let option = |key, default| table.as_ref().map_or(Ok(default), |table| table.decimal_or(key, default));
            let momentum = option("momentum", defaults::BATCH_NORM_MOMENTUM)?;
            Layer::BatchNorm { momentum, epsilon: option("epsilon", defaults::NORM_EPSILON)? }
        }
        "layer_norm" => {
            let epsilon = optional(&["epsilon"])?.and_then(|table| table.optional("epsilon"));
            Layer::LayerNorm { epsilon: epsilon.map_or(Ok(defaults::NORM_EPSILON), |node| node.decimal())? }
        }
        "dropout" => {
            let table = table(&["rate"], "{ rate = 0.5 }")?;
            Layer::Dropout { rate: table.required("rate", "the share to drop, for example rate = 0.5")?.decimal()? }
        }
        "reshape" => {
            let to = table(&["to"], "{ to = [28, 28] }")?.required("to", "the new shape, for example to = [28, 28]")?;
            Layer::Reshape { to: numbers(&to)? }
        }
        "embedding" => {
            let table = table(&["vocabulary", "out"], "{ vocabulary = 256, out = 64 }")?;
            let vocabulary = table.required("vocabulary", "the number of tokens, for example vocabulary = 256")?.u32()?;
            Layer::Embedding { vocabulary, out: table.required("out", "a token's features, for example out = 64")?.u32()? }
        }
        "position_embedding" => {
            let kind = optional(&["kind"])?.and_then(|table| table.optional("kind"));
            let known: &[&str] = &["learned", "sinusoidal"];
            let kind = kind.map(|node| node.choice(known, "\"learned\" or \"sinusoidal\"")).transpose()?;
            Layer::PositionEmbedding {
                kind: if kind.is_some_and(|(kind, _)| kind == "sinusoidal") { Positions::Sinusoidal } else { Positions::Learned },
            }
        }
        "lstm" => recurrent().map(|(hidden, sequence)| Layer::Lstm { hidden, sequence })?,
        "gru" => recurrent().map(|(hidden, sequence)| Layer::Gru { hidden, sequence })?,
        "attention" => {
            let table = table(&["heads", "causal"], "{ heads = 4 }")?;
            Layer::Attention { heads: heads(&table)?, causal: table.flag_or("causal", false)? }
        }
        "transformer_encoder" => {
            let example = "{ heads = 4, feed_forward = 256 }";
            let table = table(&["heads", "feed_forward", "causal", "dropout"], example)?;
            Layer::TransformerEncoder {
                heads: heads(&table)?,
                feed_forward: table.required("feed_forward", "the inner features, for example feed_forward = 256")?.u32()?,
                causal: table.flag_or("causal", false)?,
                dropout: table.decimal_or("dropout", Decimal::ZERO)?,
            }
        }
        "add" => Layer::Add { with: with()? },
        "concat" => Layer::Concat { with: with()? },
        "take" => {
            let from =
                table(&["from"], "{ from = \"a\" }")?.required("from", "an earlier layer's name, for example from = \"a\"")?;
            Layer::Take { from: from.text()?.to_owned() }
        }
        "global_avg_pool" => plain(Layer::GlobalAvgPool)?,
        "global_max_pool" => plain(Layer::GlobalMaxPool)?,
        "last" => plain(Layer::Last)?,
        "flatten" => plain(Layer::Flatten)?,
        "relu" => plain(Layer::Relu)?,
        "gelu" => plain(Layer::Gelu)?,
        "sigmoid" => plain(Layer::Sigmoid)?,
        "tanh" => plain(Layer::Tanh)?,
        _ => plain(Layer::Softmax)?,
    };
    Ok((layer, own_name))
}
