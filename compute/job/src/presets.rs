//! Models by name: a preset is read as the layers that it stands for, and the spec holds only those.

use crate::{Decimal, Layer, Model, Named, Positions, spec::defaults};

/// The names of all presets.
pub(crate) const NAMES: &[&str] = &["mlp", "lenet5", "resnet-small", "char-transformer"];

/// What presets mean where the job file doesn't say: MNIST's ten classes, and small widths.
pub(crate) const OUT: u32 = 10;
pub(crate) const MLP_HIDDEN: u32 = 128;
pub(crate) const RESNET_WIDTH: u32 = 16;
pub(crate) const RESNET_BLOCKS: u32 = 1;
pub(crate) const BYTES: u32 = 256;
pub(crate) const FEATURES: u32 = 64;
pub(crate) const HEADS: u32 = 4;
pub(crate) const BLOCKS: u32 = 2;

/// More blocks than any valid model has are not written out; the check refuses what is.
const MAX_BLOCKS: u32 = 64;

/// A multilayer perceptron: flat, then linear layers with ReLUs between them.
pub(crate) fn mlp(input: Vec<u32>, hidden: &[u32], out: u32) -> Model {
    let mut layers = if input.len() > 1 { vec![Layer::Flatten] } else { Vec::new() };
    for features in hidden {
        layers.extend([Layer::Linear { out: *features }, Layer::Relu]);
    }
    layers.push(Layer::Linear { out });
    Model::stack(input, layers)
}

/// LeNet-5 (LeCun et al. 1998, section II.B) for images of 28 × 28: with tanh and mean pooling; the connections between its
/// poolings and second convolutions are complete, and the output is linear.
pub(crate) fn lenet5(input: Vec<u32>, out: u32) -> Model {
    let convolution = |out, padding| Layer::Conv2d { out, kernel: 5, stride: 1, padding };
    let pooling = Layer::AvgPool2d { kernel: 2, stride: 2, padding: 0 };
    let layers = vec![
        convolution(6, 2),
        Layer::Tanh,
        pooling.clone(),
        convolution(16, 0),
        Layer::Tanh,
        pooling,
        Layer::Flatten,
        Layer::Linear { out: 120 },
        Layer::Tanh,
        Layer::Linear { out: 84 },
        Layer::Tanh,
        Layer::Linear { out },
    ];
    Model::stack(input, layers)
}

/// A residual network (He et al. 2016, section 4.2): a convolution, three stages of `blocks` blocks with `width`, 2 · `width` and
/// 4 · `width` channels, global mean pooling, and a linear layer. Where a stage halves the image, the way around its first block
/// is a convolution of 1 × 1.
pub(crate) fn resnet_small(input: Vec<u32>, width: u32, blocks: u32, out: u32) -> Model {
    let mut net = Model::stack(input, Vec::new());
    let norm = || Layer::BatchNorm { momentum: defaults::BATCH_NORM_MOMENTUM, epsilon: defaults::NORM_EPSILON };
    let convolution = |out, kernel, stride| Layer::Conv2d { out, kernel, stride, padding: kernel / 2 };
    net.layers.extend([convolution(width, 3, 1), norm(), Layer::Relu]);
    for stage in 0..3 {
        let channels = width.saturating_mul(1 << stage);
        for block in 0..blocks.min(MAX_BLOCKS) {
            let halves = stage > 0 && block == 0;
            let (start, end) = (format!("in{stage}.{block}"), format!("out{stage}.{block}"));
            net.name_last(&start);
            net.layers.extend([convolution(channels, 3, if halves { 2 } else { 1 }), norm(), Layer::Relu]);
            net.layers.extend([convolution(channels, 3, 1), norm()]);
            if halves {
                net.name_last(&end);
                net.layers.extend([Layer::Take { from: start }, convolution(channels, 1, 2), norm()]);
                net.layers.push(Layer::Add { with: vec![end] });
            } else {
                net.layers.push(Layer::Add { with: vec![start] });
            }
            net.layers.push(Layer::Relu);
        }
    }
    net.layers.extend([Layer::GlobalAvgPool, Layer::Linear { out }]);
    net
}

/// What a [`char_transformer`] looks like.
pub(crate) struct CharTransformer {
    pub(crate) vocabulary: u32,
    pub(crate) features: u32,
    pub(crate) heads: u32,
    pub(crate) blocks: u32,
    pub(crate) dropout: Decimal,
}

/// A language model over characters (bytes): each position tells the next token from itself and the ones before.
pub(crate) fn char_transformer(input: Vec<u32>, options: CharTransformer) -> Model {
    let CharTransformer { vocabulary, features, heads, blocks, dropout } = options;
    let feed_forward = features.saturating_mul(defaults::FEED_FORWARD_TIMES);
    let mut layers = vec![Layer::Embedding { vocabulary, out: features }, Layer::PositionEmbedding { kind: Positions::Learned }];
    let block = Layer::TransformerEncoder { heads, feed_forward, causal: true, dropout };
    layers.extend(std::iter::repeat_n(block, blocks.min(MAX_BLOCKS) as usize));
    layers.extend([Layer::LayerNorm { epsilon: defaults::NORM_EPSILON }, Layer::Linear { out: vocabulary }]);
    Model::stack(input, layers)
}

impl Model {
    fn name_last(&mut self, name: &str) {
        let layer = self.layers.len() as u32 - 1;
        self.names.push(Named { name: name.to_owned(), layer });
    }
}
