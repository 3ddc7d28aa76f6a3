"""Loads a model that DeepMarket trained into PyTorch.

    from load_model import load
    model = load("result/model.safetensors")        # an nn.Module in evaluation mode
    outputs = model(torch.rand(8, 1, 28, 28))

The file holds the job's spec in its metadata; the module is built from its layers, and the tensors' names are those of an
nn.Sequential of PyTorch's own modules (docs/models.md), so that load_state_dict is all there is to it. Needs Python 3.11 and
PyTorch, nothing else.
"""

import json
import math
import tomllib

import torch
from torch import nn


class Lstm(nn.LSTM):
    sequence = True

    def forward(self, x):
        outputs = super().forward(x)[0]
        return outputs if self.sequence else outputs[:, -1]


class Gru(nn.GRU):
    sequence = True

    def forward(self, x):
        outputs = super().forward(x)[0]
        return outputs if self.sequence else outputs[:, -1]


class Attention(nn.MultiheadAttention):
    causal = False

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        return super().forward(x, x, x, attn_mask=mask, need_weights=False)[0]


class Encoder(nn.TransformerEncoderLayer):
    causal = False

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        return super().forward(x, src_mask=mask)


class Conv1d(nn.Conv1d):
    """Sequences are [length, features] here, and [channels, length] in PyTorch."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Embedding(nn.Embedding):
    def forward(self, x):
        return super().forward(x.long())


class Positions(nn.Embedding):
    def forward(self, x):
        return x + self.weight


class Sinusoids(nn.Module):
    def forward(self, x):
        length, features = x.shape[1:]
        even = torch.arange(features) // 2 * 2
        angles = torch.arange(length)[:, None] / 10_000 ** (even / features)
        return x + torch.where(torch.arange(features) % 2 == 0, angles.sin(), angles.cos()).float()


class Do(nn.Module):
    """A layer without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def module(kind, o, shape):
    """The module of one layer with the options `o`, and the shape [samples, …] that it is given."""
    last, attributes = shape[-1], {}
    convolution = lambda: (o["out"], o["kernel"], o["stride"], o["padding"])
    pooled = lambda pool: Do(lambda x: pool(x.flatten(2), 2) if x.dim() == 4 else pool(x, 1))
    match kind:
        case "linear":
            made = nn.Linear(last, o["out"])
        case "conv2d":
            made = nn.Conv2d(shape[1], *convolution())
        case "conv1d":
            made = Conv1d(last, *convolution())
        case "max_pool2d":
            made = nn.MaxPool2d(o["kernel"], o["stride"], o["padding"])
        case "avg_pool2d":
            made = nn.AvgPool2d(o["kernel"], o["stride"], o["padding"])
        case "global_avg_pool":
            made = pooled(torch.mean)
        case "global_max_pool":
            made = pooled(torch.amax)
        case "last":
            made = Do(lambda x: x[:, -1])
        case "batch_norm":
            norm = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
            made = norm(shape[1], eps=o["epsilon"], momentum=o["momentum"])
        case "layer_norm":
            made = nn.LayerNorm(last, eps=o["epsilon"])
        case "dropout":
            made = nn.Dropout(o["rate"])
        case "flatten":
            made = nn.Flatten()
        case "reshape":
            made = Do(lambda x: x.reshape(len(x), *o["to"]))
        case "relu":
            made = nn.ReLU()
        case "gelu":
            made = nn.GELU()
        case "sigmoid":
            made = nn.Sigmoid()
        case "tanh":
            made = nn.Tanh()
        case "softmax":
            made = nn.Softmax(dim=-1)
        case "embedding":
            made = Embedding(o["vocabulary"], o["out"])
        case "position_embedding":
            made = Positions(shape[1], last) if o["kind"] == "learned" else Sinusoids()
        case "lstm" | "gru":
            made = (Lstm if kind == "lstm" else Gru)(last, o["hidden"], batch_first=True)
            attributes = {"sequence": o["return_sequence"]}
        case "attention":
            made = Attention(last, o["heads"], batch_first=True)
            attributes = {"causal": o["causal"]}
        case "transformer_encoder":
            made = Encoder(last, o["heads"], o["feed_forward"], o["dropout"], "gelu", batch_first=True, norm_first=True)
            attributes = {"causal": o["causal"]}
        case _:
            made = nn.Identity()  # add, concat and take: Model does them.
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


class Model(nn.Module):
    """The layers of a spec; children are named by their index, as in nn.Sequential."""

    def __init__(self, spec):
        super().__init__()
        self.plan = []
        shape = [1, *spec["model"]["input"]]
        shapes = {"input": shape}
        for index, layer in enumerate(spec["model"]["layers"]):
            name = layer.pop("name", None)
            ((kind, options),) = layer.items()
            made = module(kind, options, shape)
            self.add_module(str(index), made)
            self.plan.append((kind, options, name))
            shape = self.shape_after(kind, options, made, shape, shapes)
            shapes[name] = shape
        self.eval()

    @staticmethod
    @torch.no_grad()
    def shape_after(kind, options, made, shape, shapes):
        match kind:
            case "add":
                return shape
            case "take":
                return shapes[options["from"]]
            case "concat":
                joined = [torch.zeros(s) for s in [shape, *(shapes[name] for name in options["with"])]]
                return list(torch.cat(joined, 1 if len(shape) == 4 else -1).shape)
            case _:
                return list(made.eval()(torch.zeros(shape)).shape)

    def forward(self, x):
        values = {"input": x}
        for child, (kind, options, name) in zip(self.children(), self.plan):
            match kind:
                case "add":
                    x = x + sum(values[other] for other in options["with"])
                case "concat":
                    others = [values[other] for other in options["with"]]
                    x = torch.cat([x, *others], 1 if x.dim() == 4 else -1)
                case "take":
                    x = values[options["from"]]
                case _:
                    x = child(x)
            values[name] = x
        return x


def read(path):
    """A safetensors file of floats: its metadata and its tensors."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, tensor in header.items():
        assert tensor["dtype"] == "F32", f"{name} is {tensor['dtype']}"
        start, _ = tensor["data_offsets"]
        count = math.prod(tensor["shape"])
        tensors[name] = torch.frombuffer(data, dtype=torch.float32, offset=start, count=count).reshape(tensor["shape"])
    return metadata, tensors


def load(path):
    """The model in a file that `deepmarket job result` fetched, in evaluation mode."""
    metadata, tensors = read(path)
    model = Model(tomllib.loads(metadata["deepmarket.spec"]))
    # PyTorch's batch norms count batches, which nothing needs; a checkpoint holds the optimizer's state too.
    known = model.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("optimizer.", "outer."))}
    missing = {name: value for name, value in known.items() if name.endswith(".num_batches_tracked")}
    model.load_state_dict(tensors | missing)
    return model


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 2:
        sys.exit("usage: python3 load_model.py MODEL.safetensors")
    print(load(sys.argv[1]))
