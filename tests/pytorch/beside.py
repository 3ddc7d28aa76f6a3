"""The accuracy on MNIST's test images of the model that `job result` put into a folder, by the model.py beside it.

    python tests/pytorch/beside.py FOLDER IDX_DIR
"""

import sys

import torch

sys.path.insert(0, sys.argv[1])
from model import model, prepare  # noqa: E402


def read(name, header):
    with open(f"{sys.argv[2]}/{name}", "rb") as file:
        return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8)


images = read("t10k-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28)
labels = read("t10k-labels-idx1-ubyte", 8)
with torch.no_grad():
    outputs = model(prepare(images))
print((outputs.argmax(1) == labels).double().mean().item())
