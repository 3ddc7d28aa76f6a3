//! The Python file beside a fetched model: it builds the same layers in PyTorch and loads the model into them.

use deepmarket_job::{DatasetManifest, Features, JobSpec, Layer, Model, Positions, layer_shapes};

/// The file for a job's model; none where the spec's layers don't fit together. With the dataset's manifest it also says how the
/// dataset's values become what the model takes.
pub fn python(spec: &JobSpec, manifest: Option<&DatasetManifest>) -> Option<String> {
    let layers = Layers::of(&spec.model)?;
    let name: String = spec.name.chars().map(|c| if c.is_ascii_alphanumeric() || " ._-".contains(c) { c } else { '?' }).collect();
    let prepare = match manifest.map(|manifest| manifest.x) {
        Some(Features::U8 { mean, std }) => format!("(x.float() / 255 - {mean}) / {std}"),
        Some(Features::Tokens { .. }) => "x.long()".into(),
        Some(Features::F32) | None => "x.float()".into(),
    };
    let code = if layers.are_plain() { layers.sequential() } else { layers.module() };
    Some(format!(
        r#""""The model that DeepMarket's job '{name}' trained, in PyTorch. Needs torch and safetensors.

    from model import model, prepare      # with model.safetensors beside this file
    outputs = model(prepare(x))           # x: samples as the dataset holds them, {shape}
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

{code}
model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
model.eval()


def prepare(x):
    """The dataset's values as the model takes them."""
    return {prepare}
"#,
        shape = bracketed(&spec.model.input),
    ))
}

/// `[samples, 1, 28, 28]`.
fn bracketed(shape: &[u32]) -> String {
    let sides: Vec<String> = std::iter::once("samples".to_owned()).chain(shape.iter().map(u32::to_string)).collect();
    format!("[{}]", sides.join(", "))
}

/// A layer in PyTorch.
struct Line {
    /// The module, where there is one with parameters or of PyTorch's own.
    module: Option<String>,
    /// What `x` becomes; none where it is the module of `x`.
    step: Option<String>,
    /// Is what it puts out used by a later layer, by name?
    is_kept: bool,
}

struct Layers {
    lines: Vec<Line>,
    takes_input: bool,
    is_causal: bool,
    has_waves: bool,
}

impl Layers {
    fn of(model: &Model) -> Option<Layers> {
        let shapes = layer_shapes(model).ok()?;
        let used: Vec<usize> = model.layers.iter().flat_map(names_in).filter_map(|name| model.value_of(name)).collect();
        let mut lines = Vec::new();
        for (index, layer) in model.layers.iter().enumerate() {
            let (module, step) = translated(layer, index, &shapes[index], model)?;
            lines.push(Line { module, step, is_kept: used.contains(&(index + 1)) });
        }
        let is_causal = model
            .layers
            .iter()
            .any(|layer| matches!(layer, Layer::Attention { causal: true, .. } | Layer::TransformerEncoder { causal: true, .. }));
        let has_waves =
            model.layers.iter().any(|layer| matches!(layer, Layer::PositionEmbedding { kind: Positions::Sinusoidal }));
        Some(Layers { lines, takes_input: used.contains(&0), is_causal, has_waves })
    }

    /// Is it a stack of PyTorch's modules?
    fn are_plain(&self) -> bool {
        self.lines.iter().all(|line| line.module.is_some() && line.step.is_none() && !line.is_kept)
    }

    fn sequential(&self) -> String {
        let modules: String = self.modules().map(|(_, module)| format!("    {module},\n")).collect();
        format!("model = nn.Sequential(\n{modules})")
    }

    /// A module of its own; its layers are numbered as the model's are, so that names of parameters are the same.
    fn module(&self) -> String {
        let modules: String =
            self.modules().map(|(index, module)| format!("        self.add_module(\"{index}\", {module})\n")).collect();
        let mut steps = String::new();
        if self.takes_input {
            steps += "        inputs = x\n";
        }
        for (index, line) in self.lines.iter().enumerate() {
            let step = line.step.clone().unwrap_or_else(|| format!("m[\"{index}\"](x)"));
            steps += &format!("        x = {step}\n");
            if line.is_kept {
                steps += &format!("        kept_{index} = x\n");
            }
        }
        let mut helpers = String::new();
        if self.is_causal {
            helpers += CAUSAL;
        }
        if self.has_waves {
            helpers += WAVES;
        }
        format!(
            r#"{helpers}
class Model(nn.Module):
    def __init__(self):
        super().__init__()
{modules}
    def forward(self, x):
        m = self._modules
{steps}        return x


model = Model()"#
        )
    }

    fn modules(&self) -> impl Iterator<Item = (usize, &String)> {
        self.lines.iter().enumerate().filter_map(|(index, line)| line.module.as_ref().map(|module| (index, module)))
    }
}

const CAUSAL: &str = r#"
def causal(x):
    """Each position sees itself and earlier ones only."""
    return nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)

"#;

const WAVES: &str = r#"
def waves(x):
    """Sines and cosines of falling frequencies for each position."""
    length, features = x.shape[1:]
    feature = torch.arange(features, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] / 10_000 ** (feature // 2 * 2 / features)
    return torch.where(feature % 2 == 0, angles.sin(), angles.cos()).float().to(x.device)

"#;

/// A layer's module, and what becomes of `x` where that isn't just the module of it.
fn translated(layer: &Layer, index: usize, input: &[u32], model: &Model) -> Option<(Option<String>, Option<String>)> {
    let (first, last) = (*input.first()?, *input.last()?);
    let is_image = input.len() == 3;
    let module = |module: String| (Some(module), None);
    let step = |step: String| (None, Some(step));
    let named = |name: &String| match model.value_of(name)? {
        0 => Some("inputs".to_owned()),
        value => Some(format!("kept_{}", value - 1)),
    };
    let flag = |set: bool| if set { "True" } else { "False" };
    Some(match layer {
        Layer::Linear { out } => module(format!("nn.Linear({last}, {out})")),
        Layer::Conv2d { out, kernel, stride, padding } => {
            module(format!("nn.Conv2d({first}, {out}, {kernel}, stride={stride}, padding={padding})"))
        }
        Layer::Conv1d { out, kernel, stride, padding } => (
            Some(format!("nn.Conv1d({last}, {out}, {kernel}, stride={stride}, padding={padding})")),
            Some(format!("m[\"{index}\"](x.transpose(1, 2)).transpose(1, 2)")),
        ),
        Layer::MaxPool2d { kernel, stride, padding } => {
            module(format!("nn.MaxPool2d({kernel}, stride={stride}, padding={padding})"))
        }
        Layer::AvgPool2d { kernel, stride, padding } => {
            module(format!("nn.AvgPool2d({kernel}, stride={stride}, padding={padding})"))
        }
        Layer::GlobalAvgPool => step(if is_image { "x.mean((2, 3))" } else { "x.mean(1)" }.into()),
        Layer::GlobalMaxPool => step(if is_image { "x.amax((2, 3))" } else { "x.amax(1)" }.into()),
        Layer::Last => step("x[:, -1]".into()),
        Layer::BatchNorm { momentum, epsilon } => {
            let dimensions = if is_image { "2d" } else { "1d" };
            module(format!("nn.BatchNorm{dimensions}({first}, eps={epsilon}, momentum={momentum})"))
        }
        Layer::LayerNorm { epsilon } => module(format!("nn.LayerNorm({last}, eps={epsilon})")),
        Layer::Dropout { rate } => module(format!("nn.Dropout({rate})")),
        Layer::Flatten => module("nn.Flatten()".into()),
        Layer::Reshape { to } => {
            let sides: Vec<String> = to.iter().map(u32::to_string).collect();
            step(format!("x.reshape(-1, {})", sides.join(", ")))
        }
        Layer::Relu => module("nn.ReLU()".into()),
        Layer::Gelu => module("nn.GELU()".into()),
        Layer::Sigmoid => module("nn.Sigmoid()".into()),
        Layer::Tanh => module("nn.Tanh()".into()),
        Layer::Softmax => module("nn.Softmax(dim=-1)".into()),
        Layer::Embedding { vocabulary, out } => module(format!("nn.Embedding({vocabulary}, {out})")),
        Layer::PositionEmbedding { kind: Positions::Learned } => {
            (Some(format!("nn.Embedding({first}, {last})")), Some(format!("x + m[\"{index}\"].weight")))
        }
        Layer::PositionEmbedding { kind: Positions::Sinusoidal } => step("x + waves(x)".into()),
        Layer::Lstm { hidden, sequence } | Layer::Gru { hidden, sequence } => {
            let kind = if matches!(layer, Layer::Lstm { .. }) { "LSTM" } else { "GRU" };
            let which = if *sequence { "" } else { "[:, -1]" };
            (Some(format!("nn.{kind}({last}, {hidden}, batch_first=True)")), Some(format!("m[\"{index}\"](x)[0]{which}")))
        }
        Layer::Attention { heads, causal } => {
            let mask = if *causal { "causal(x)" } else { "None" };
            (
                Some(format!("nn.MultiheadAttention({last}, {heads}, batch_first=True)")),
                Some(format!("m[\"{index}\"](x, x, x, need_weights=False, attn_mask={mask})[0]")),
            )
        }
        Layer::TransformerEncoder { heads, feed_forward, causal, dropout } => {
            let options = "activation=\"gelu\", batch_first=True, norm_first=True";
            let mask = if *causal { "causal(x)" } else { "None" };
            (
                Some(format!("nn.TransformerEncoderLayer({last}, {heads}, {feed_forward}, {dropout}, {options})")),
                Some(format!("m[\"{index}\"](x, src_mask={mask}, is_causal={})", flag(*causal))),
            )
        }
        Layer::Add { with } => {
            let names = with.iter().map(named).collect::<Option<Vec<String>>>()?;
            step(format!("x + {}", names.join(" + ")))
        }
        Layer::Concat { with } => {
            let names = with.iter().map(named).collect::<Option<Vec<String>>>()?;
            let dimension = if is_image { 1 } else { -1 };
            step(format!("torch.cat([x, {}], dim={dimension})", names.join(", ")))
        }
        Layer::Take { from } => step(named(from)?),
    })
}

/// The names that a layer takes.
fn names_in(layer: &Layer) -> &[String] {
    match layer {
        Layer::Add { with } | Layer::Concat { with } => with,
        Layer::Take { from } => std::slice::from_ref(from),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::Hash;

    use super::*;

    fn of(example: &str) -> String {
        let spec = JobSpec::from_toml(example, &|_| Some(Hash::default())).unwrap();
        python(&spec, None).unwrap()
    }

    #[test]
    fn a_plain_stack_is_pytorchs_sequential() {
        let text = of(include_str!("../../../../../examples/mnist.toml"));
        let expected = "model = nn.Sequential(
    nn.Conv2d(1, 16, 3, stride=1, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2, stride=2, padding=0),
    nn.Conv2d(16, 32, 3, stride=1, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2, stride=2, padding=0),
    nn.Flatten(),
    nn.Linear(1568, 10),
)
model.load_state_dict(";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("[samples, 1, 28, 28]"), "{text}");
    }

    #[test]
    fn models_that_are_no_stack_are_modules_with_the_same_numbers() {
        let transformer = of(include_str!("../../../../../examples/char-transformer.toml"));
        for part in ["self.add_module(\"0\", nn.Embedding(", "src_mask=causal(x), is_causal=True", "def causal(x)"] {
            assert!(transformer.contains(part), "'{part}' is not in:\n{transformer}");
        }
        let residual = of(include_str!("../../../../../examples/resnet-small.toml"));
        assert!(residual.contains(" = x\n") && residual.contains("x = x + kept_"), "{residual}");
        assert!(of(include_str!("../../../../../examples/lstm.toml")).contains("nn.LSTM("));
    }

    #[test]
    fn nothing_of_a_jobs_name_is_code() {
        let mut spec =
            JobSpec::from_toml(include_str!("../../../../../examples/mnist.toml"), &|_| Some(Hash::default())).unwrap();
        spec.name = "\"\"\"\nimport os\\".into();
        assert!(python(&spec, None).unwrap().starts_with("\"\"\"The model that DeepMarket's job '????import os?' trained"));
    }
}
