"""Seconds per MNIST epoch of PyTorch on one core, for the two models of `deepmarket-trainer bench`.

Prints one JSON object. Installs nothing: where PyTorch is missing it says so and exits with 0.

    python tests/pytorch/compare.py [--seconds N] [--model MODEL.safetensors --data IDX_DIR]

With --model and --data it also loads a model that DeepMarket exported (the demo's) into `nn.Sequential` and computes its
accuracy on the 10,000 test images.
"""

import argparse
import json
import struct
import sys
import time

BATCH = 64
EPOCH_SAMPLES = 60_000


def demo(nn):
    """examples/mnist.toml."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )


def classic(nn):
    """PyTorch's "basic MNIST" example, 1.2 M parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )


def seconds_per_epoch(torch, model, seconds):
    """Adam on random images in batches of 64, as the trainer's bench does."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2048, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (2048,), generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    loss_of = torch.nn.CrossEntropyLoss()

    def run(duration):
        start, samples = time.perf_counter(), 0
        while time.perf_counter() - start < duration:
            at = samples % 2048
            optimizer.zero_grad()
            loss_of(model(x[at:at + BATCH]), y[at:at + BATCH]).backward()
            optimizer.step()
            samples += BATCH
        return (time.perf_counter() - start) / samples * EPOCH_SAMPLES

    run(min(1.0, seconds))
    return round(run(seconds), 2)


def read_safetensors(torch, path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            flat = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def accuracy(torch, path, folder):
    model = demo(torch.nn)
    model.load_state_dict(read_safetensors(torch, path), strict=True)
    model.eval()
    with open(f"{folder}/t10k-images-idx3-ubyte", "rb") as file:
        images = torch.frombuffer(bytearray(file.read()[16:]), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    with open(f"{folder}/t10k-labels-idx1-ubyte", "rb") as file:
        labels = torch.frombuffer(bytearray(file.read()[8:]), dtype=torch.uint8)
    with torch.no_grad():
        outputs = model((images.float() / 255 - 0.1307) / 0.3081)
    return (outputs.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time for each model")
    parser.add_argument("--model", help="a model of examples/mnist.toml, as DeepMarket exported it")
    parser.add_argument("--data", help="the folder with MNIST's IDX files")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print(json.dumps({"torch": None, "needs": "Python with PyTorch (for example: pip install torch)"}))
        return 0
    torch.set_num_threads(1)
    models = [
        {"model": name, "seconds_per_epoch": seconds_per_epoch(torch, build(torch.nn), arguments.seconds)}
        for name, build in (("mnist-cnn", demo), ("basic-mnist", classic))
    ]
    result = {"torch": torch.__version__, "batch": BATCH, "threads": 1, "models": models}
    if arguments.model and arguments.data:
        result["exported_model_accuracy"] = accuracy(torch, arguments.model, arguments.data)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
