"""Writes trained weights as ONNX, for any number of pictures at once. Usage: export.py RUN_FOLDER OUTPUT"""

import sys
from pathlib import Path

import torch

import data
from train import FlowNet


def main(folder, output):
    model = FlowNet()
    model.load_state_dict(torch.load(Path(folder) / "ema.pt"))
    model.eval()
    example = (torch.randn(2, 3, data.SIZE, data.SIZE), torch.rand(2), torch.zeros(2, data.CONDITION_SIZE))
    inputs, outputs = ["x", "t", "c"], ["v"]
    torch.onnx.export(
        model,
        example,
        output,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes={name: {0: "b"} for name in inputs + outputs},
        opset_version=17,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
