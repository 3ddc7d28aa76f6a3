//! What each layer makes of its input's shape, and why a layer is refused.

use crate::{
    Decimal, INPUT, Layer, MAX_DIMENSION, MAX_LAYERS, Model, SpecError,
    SpecProblem::{BadValue, Shape, TooLarge},
    size::{bad, check_name, values, within},
};

/// The most names that one layer takes from.
const MAX_WITH: usize = 16;
/// The most values of one sample that a layer puts out: far more than any machine trains with.
const MAX_VALUES: u64 = 1 << 40;

/// The shapes of one sample before each layer and after the last: one more than there are layers.
pub fn layer_shapes(model: &Model) -> Result<Vec<Vec<u32>>, SpecError> {
    check_shape("model.input", &model.input)?;
    let layers = &model.layers;
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        let found = format!("there are {} layers", layers.len());
        return Err(SpecError::new(BadValue, "model.layers", found, format!("use 1 to {MAX_LAYERS}")));
    }
    check_names(model)?;
    let mut shapes = vec![model.input.clone()];
    for (index, layer) in layers.iter().enumerate() {
        let place = format!("model.layers[{index}].{}", layer.name());
        let output = match layer.takes() {
            [] => output_shape(layer, &shapes[index], &place)?,
            _ => named_output_shape(model, index, &shapes, &place)?,
        };
        if values(&output) > MAX_VALUES {
            let found = format!("it puts out {output:?}, which is more than {MAX_VALUES} values");
            return Err(SpecError::new(TooLarge, place, found, "make it narrower, or pool before it"));
        }
        if matches!(layer, Layer::Embedding { .. }) && !takes_the_input(model, index) {
            let hint = "make it the first layer, or put { take = { from = \"input\" } } before it";
            return Err(SpecError::new(Shape, place, "an embedding takes tokens: the model's input", hint));
        }
        shapes.push(output);
    }
    Ok(shapes)
}

fn takes_the_input(model: &Model, index: usize) -> bool {
    match index.checked_sub(1).map(|before| &model.layers[before]) {
        None => true,
        Some(Layer::Take { from }) => from == INPUT,
        Some(_) => false,
    }
}

pub(crate) fn check_shape(place: &str, shape: &[u32]) -> Result<(), SpecError> {
    if !matches!(shape.len(), 1..=3) {
        let found = format!("{shape:?} has {} dimensions", shape.len());
        let hint = "write [features], [length, features] or [channels, height, width]";
        return Err(SpecError::new(Shape, place, found, hint));
    }
    shape.iter().try_for_each(|dimension| within(place, (*dimension).into(), 1, MAX_DIMENSION.into()))
}

/// Names are unique, one for a layer, and each is used; nothing that a layer puts out is lost.
fn check_names(model: &Model) -> Result<(), SpecError> {
    let mut next = 0;
    for (number, named) in model.names.iter().enumerate() {
        let place = format!("model.layers[{}].name", named.layer);
        check_name(&place, &named.name)?;
        if named.layer < next || named.layer as usize >= model.layers.len() {
            return Err(bad(place, "it is out of order", "give each layer at most one name"));
        }
        if named.name == INPUT || model.names[..number].iter().any(|earlier| earlier.name == named.name) {
            let found = format!("'{}' is the name of something else", named.name);
            return Err(bad(place, found, "use another name"));
        }
        next = named.layer + 1;
        let later = &model.layers[named.layer as usize + 1..];
        if !later.iter().any(|layer| layer.takes().contains(&named.name)) {
            let found = format!("no later layer takes '{}'", named.name);
            let hint = format!("remove the name, or add {{ add = {{ with = [\"{}\"] }} }}", named.name);
            return Err(bad(place, found, hint));
        }
    }
    for (index, pair) in model.layers.windows(2).enumerate() {
        if matches!(pair[1], Layer::Take { .. }) && model.name_of(index).is_none() {
            let found = format!("what {} puts out has no name, and the next layer doesn't take it: it is lost", pair[0].name());
            let hint = "give it a name for a later add or concat, or remove it";
            return Err(SpecError::new(Shape, format!("model.layers[{index}].{}", pair[0].name()), found, hint));
        }
    }
    Ok(())
}

/// The output of a layer that takes from others.
fn named_output_shape(model: &Model, index: usize, shapes: &[Vec<u32>], place: &str) -> Result<Vec<u32>, SpecError> {
    let (layer, input) = (&model.layers[index], &shapes[index]);
    let names = layer.takes();
    if names.len() > MAX_WITH {
        return Err(bad(place, format!("it takes from {} layers", names.len()), format!("use 1 to {MAX_WITH}")));
    }
    let mut others = Vec::new();
    for name in names {
        let known = model.names.iter().filter(|named| (named.layer as usize) < index).map(|named| named.name.as_str());
        match model.value_of(name).and_then(|value| shapes.get(value)) {
            Some(shape) => others.push(shape),
            None => {
                let found = format!("no earlier layer is named '{}'", name.chars().take(64).collect::<String>());
                let known: Vec<&str> = [INPUT].into_iter().chain(known).collect();
                let hint = format!("name one, {{ relu = {{}}, name = \"a\" }}; known here: {}", known.join(", "));
                return Err(SpecError::new(Shape, place, found, hint));
            }
        }
    }
    let differs = |name: &str, shape: &[u32], needs: &str| {
        let found = format!("{input:?} comes in and '{name}' is {shape:?}: {needs}");
        Err(SpecError::new(
            Shape,
            place,
            found,
            "change the layers between them, or bring it into shape with a convolution of 1 × 1",
        ))
    };
    let with: Vec<(&String, &Vec<u32>)> = names.iter().zip(others).collect();
    match layer {
        Layer::Add { .. } => match with.iter().find(|(_, shape)| *shape != input) {
            Some((name, shape)) => differs(name, shape, "add needs equal shapes"),
            None => Ok(input.clone()),
        },
        Layer::Concat { .. } => {
            // Features come last, an image's channels first.
            let joined = if input.len() == 2 { 1 } else { 0 };
            let rest =
                |shape: &[u32]| shape.iter().enumerate().filter(|(d, _)| *d != joined).map(|(_, n)| *n).collect::<Vec<_>>();
            let mut output = input.clone();
            for (name, shape) in with {
                if shape.len() != input.len() || rest(shape) != rest(input) {
                    return differs(name, shape, "concat needs shapes that differ in features (or channels) only");
                }
                output[joined] = output[joined].saturating_add(shape[joined]);
            }
            within(place, output[joined].into(), 1, MAX_DIMENSION.into())?;
            Ok(output)
        }
        _ => Ok(with[0].1.clone()),
    }
}

fn output_shape(layer: &Layer, input: &[u32], place: &str) -> Result<Vec<u32>, SpecError> {
    let refuse = |needs: &str, hint: &str| {
        let found = format!("{input:?} comes in, and {} takes {needs}", layer.name());
        Err(SpecError::new(Shape, place, found, hint))
    };
    let option = |key: &str, value: u32| within(&format!("{place}.{key}"), value.into(), 1, MAX_DIMENSION.into());
    let flat_hint = "put { flatten = {} } before it";
    let image_hint = "put it before { flatten = {} }, or make model.input [channels, height, width]";
    let sequence_hint =
        "make model.input [length, features], put an embedding before it, or { reshape = { to = [length, features] } }";
    match (layer, input) {
        (Layer::Linear { out }, [before @ .., _]) if input.len() < 3 => {
            option("out", *out)?;
            Ok([before, &[*out]].concat())
        }
        (Layer::Linear { .. } | Layer::LayerNorm { .. } | Layer::Softmax, [_, _, _, ..]) => {
            refuse("[features] or [length, features]", flat_hint)
        }
        (Layer::Conv2d { out, kernel, stride, padding }, [_, height, width]) => {
            option("out", *out)?;
            within(&format!("{place}.padding"), (*padding).into(), 0, u64::from((*kernel).max(1)) - 1)?;
            Ok(vec![*out, slide(place, *height, *kernel, *stride, *padding)?, slide(place, *width, *kernel, *stride, *padding)?])
        }
        (Layer::Conv1d { out, kernel, stride, padding }, [length, _]) => {
            option("out", *out)?;
            within(&format!("{place}.padding"), (*padding).into(), 0, u64::from((*kernel).max(1)) - 1)?;
            Ok(vec![slide(place, *length, *kernel, *stride, *padding)?, *out])
        }
        (
            Layer::MaxPool2d { kernel, stride, padding } | Layer::AvgPool2d { kernel, stride, padding },
            [channels, height, width],
        ) => {
            within(&format!("{place}.padding"), (*padding).into(), 0, u64::from(*kernel / 2))?;
            Ok(vec![
                *channels,
                slide(place, *height, *kernel, *stride, *padding)?,
                slide(place, *width, *kernel, *stride, *padding)?,
            ])
        }
        (Layer::Conv2d { .. } | Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. }, _) => {
            refuse("[channels, height, width]", image_hint)
        }
        (Layer::GlobalAvgPool | Layer::GlobalMaxPool, [channels, _, _]) => Ok(vec![*channels]),
        (Layer::GlobalAvgPool | Layer::GlobalMaxPool | Layer::Last, [_, features]) => Ok(vec![*features]),
        (Layer::GlobalAvgPool | Layer::GlobalMaxPool, _) => {
            refuse("[channels, height, width] or [length, features]", "remove it: there are no positions to pool")
        }
        (Layer::Flatten, shape) => match u32::try_from(values(shape)) {
            Ok(features) if features <= MAX_DIMENSION => Ok(vec![features]),
            _ => {
                let found =
                    format!("{input:?} comes in, which is {} features; at most {MAX_DIMENSION} are allowed", values(shape));
                Err(SpecError::new(TooLarge, place, found, "pool before it"))
            }
        },
        (Layer::Reshape { to }, shape) => {
            check_shape(&format!("{place}.to"), to)?;
            if values(to) != values(shape) {
                let found = format!("{input:?} comes in, which is {} values, and {to:?} is {}", values(shape), values(to));
                return Err(SpecError::new(Shape, place, found, "use a shape of as many values"));
            }
            Ok(to.clone())
        }
        (Layer::BatchNorm { .. }, [_, _]) => {
            refuse("[features] or [channels, height, width]", "use { layer_norm = {} } for sequences")
        }
        (Layer::BatchNorm { momentum, epsilon }, shape) => {
            if *momentum <= Decimal::ZERO || *momentum > Decimal::ONE {
                return Err(bad(
                    format!("{place}.momentum"),
                    format!("{momentum} is out of range"),
                    "use more than 0 and at most 1",
                ));
            }
            check_epsilon(place, *epsilon)?;
            Ok(shape.to_vec())
        }
        (Layer::LayerNorm { epsilon }, shape) => {
            check_epsilon(place, *epsilon)?;
            Ok(shape.to_vec())
        }
        (Layer::Dropout { rate }, shape) => {
            check_share(&format!("{place}.rate"), *rate)?;
            Ok(shape.to_vec())
        }
        (Layer::Embedding { vocabulary, out }, [length]) => {
            option("out", *out)?;
            within(&format!("{place}.vocabulary"), (*vocabulary).into(), 2, MAX_DIMENSION.into())?;
            Ok(vec![*length, *out])
        }
        (Layer::Embedding { .. }, _) => refuse("[length] tokens", "make model.input [length]"),
        (Layer::PositionEmbedding { .. }, [_, _]) => Ok(input.to_vec()),
        (Layer::Lstm { hidden, sequence } | Layer::Gru { hidden, sequence }, [length, _]) => {
            option("hidden", *hidden)?;
            Ok(if *sequence { vec![*length, *hidden] } else { vec![*hidden] })
        }
        (Layer::Attention { heads, .. }, [_, features]) => {
            check_heads(place, *heads, *features)?;
            Ok(input.to_vec())
        }
        (Layer::TransformerEncoder { heads, feed_forward, dropout, .. }, [_, features]) => {
            check_heads(place, *heads, *features)?;
            option("feed_forward", *feed_forward)?;
            check_share(&format!("{place}.dropout"), *dropout)?;
            Ok(input.to_vec())
        }
        (Layer::Relu | Layer::Gelu | Layer::Sigmoid | Layer::Tanh | Layer::Softmax, shape) => Ok(shape.to_vec()),
        (Layer::Linear { .. }, _) => refuse("[features] or [length, features]", flat_hint),
        (Layer::Add { .. } | Layer::Concat { .. } | Layer::Take { .. }, _) => {
            Err(bad(place, "it names no earlier layer", format!("write {{ {} = {{ with = [\"a\"] }} }}", layer.name())))
        }
        (
            Layer::Conv1d { .. }
            | Layer::Last
            | Layer::PositionEmbedding { .. }
            | Layer::Lstm { .. }
            | Layer::Gru { .. }
            | Layer::Attention { .. }
            | Layer::TransformerEncoder { .. },
            _,
        ) => refuse("[length, features]", sequence_hint),
    }
}

/// Positions of a kernel along one dimension.
fn slide(place: &str, size: u32, kernel: u32, stride: u32, padding: u32) -> Result<u32, SpecError> {
    within(&format!("{place}.kernel"), kernel.into(), 1, MAX_DIMENSION.into())?;
    within(&format!("{place}.stride"), stride.into(), 1, MAX_DIMENSION.into())?;
    // Size, kernel, stride and padding are at most 65,536 each: the sums fit.
    let padded = size + 2 * padding;
    if kernel > padded {
        let found = format!("the kernel of {kernel} is larger than the {padded} values that come in (padding included)");
        return Err(SpecError::new(Shape, place, found, "use a smaller kernel, more padding, or less pooling before it"));
    }
    let positions = (padded - kernel) / stride + 1;
    within(place, positions.into(), 1, MAX_DIMENSION.into())?;
    Ok(positions)
}

fn check_heads(place: &str, heads: u32, features: u32) -> Result<(), SpecError> {
    if heads == 0 || !features.is_multiple_of(heads) {
        let found = format!("{features} features can't be shared by {heads} heads");
        return Err(bad(format!("{place}.heads"), found, "use a number that divides the features"));
    }
    Ok(())
}

fn check_share(place: &str, share: Decimal) -> Result<(), SpecError> {
    if share < Decimal::ZERO || share >= Decimal::ONE {
        return Err(bad(place, format!("{share} is out of range"), "use at least 0 and less than 1"));
    }
    Ok(())
}

fn check_epsilon(place: &str, epsilon: Decimal) -> Result<(), SpecError> {
    if epsilon <= Decimal::ZERO || epsilon > Decimal::ONE {
        return Err(bad(format!("{place}.epsilon"), format!("{epsilon} is out of range"), "use more than 0 and at most 1"));
    }
    Ok(())
}
