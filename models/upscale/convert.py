"""Converts the upscaler ESRGAN-slim from TensorFlow.js to ONNX, so that ONNX Runtime alone can run it.

Usage: convert.py PACKAGE_FOLDER SCALE OUTPUT, where the folder is that of the npm package @upscalerjs/esrgan-slim (MIT)
and the scale is 2, 3, 4 or 8. The model takes and gives planes of red, green and blue from 0 to 255.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ACTIVATIONS = {"linear": lambda x: x, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


def read_weights(manifest, data):
    """Arrays by name, as they lie one after another in the file."""
    weights = {}
    offset = 0
    for weight in manifest:
        assert weight["dtype"] == "float32" and "quantization" not in weight
        count = int(np.prod(weight["shape"]))
        weights[weight["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(weight["shape"]).copy()
        offset += 4 * count
    return weights


class LayersModel(torch.nn.Module):
    """A Keras graph of the few kinds of layers that ESRGAN-slim has, computed layer by layer."""

    def __init__(self, config, weights):
        super().__init__()
        self.layers = config["layers"]
        self.output = config["output_layers"][0][0]
        self.weights = torch.nn.ParameterDict()
        for layer in self.layers:
            if layer["class_name"] == "Conv2D":
                self.keep_convolution(layer["name"], weights)

    def keep_convolution(self, name, weights):
        own = {key: values for key, values in weights.items() if key.startswith(name + "/")}
        kernel = next(values for key, values in own.items() if "kernel" in key)
        # Keras: height, width, input, output. PyTorch: output, input, height, width.
        self.weights[name + "_kernel"] = torch.nn.Parameter(
            torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        )
        for key, values in own.items():
            if "bias" in key:
                self.weights[name + "_bias"] = torch.nn.Parameter(torch.from_numpy(values))

    def forward(self, x):
        values = {}
        for layer in self.layers:
            inputs = (
                [values[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else [x]
            )
            values[layer["name"]] = self.compute(layer, inputs)
        return values[self.output]

    def compute(self, layer, inputs):
        kind, config = layer["class_name"], layer["config"]
        if kind == "InputLayer":
            return inputs[0]
        if kind == "Conv2D":
            return self.convolve(layer["name"], config, inputs[0])
        if kind == "Activation":
            return ACTIVATIONS[config["activation"]](inputs[0])
        if kind == "Concatenate":
            return torch.cat(inputs, 1)
        if kind == "Add":
            return sum(inputs[1:], inputs[0])
        if kind == "UpSampling2D":
            mode = config.get("interpolation", "nearest")
            return F.interpolate(inputs[0], scale_factor=float(config["size"][0]), mode=mode)
        raise SystemExit(f"no translation for a layer of the kind {kind}")

    def convolve(self, name, config, x):
        assert config["strides"] == [1, 1]
        assert config["padding"] == "same" or config["kernel_size"] == [1, 1]
        kernel = self.weights[name + "_kernel"]
        bias = self.weights[name + "_bias"] if name + "_bias" in self.weights else None
        result = F.conv2d(x, kernel, bias, padding=config["kernel_size"][0] // 2)
        return ACTIVATIONS[config["activation"]](result)


def main(package, scale, output):
    folder = Path(package) / "models" / f"x{scale}"
    description = json.loads((folder / "model.json").read_text())
    weights = read_weights(
        description["weightsManifest"][0]["weights"], (folder / "group1-shard1of1.bin").read_bytes()
    )
    model = LayersModel(description["modelTopology"]["model_config"]["config"], weights).eval()
    torch.onnx.export(
        model,
        torch.rand(1, 3, 32, 32) * 255,
        output,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {2: "h", 3: "w"}, "y": {2: "H", 3: "W"}},
        opset_version=17,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
