"""Trains TinyIMG on a CPU: a rectified-flow U-Net, 32 × 32 pixels, conditioned on a few words.

Written for Debian's python3-torch 1.13. Usage: train.py RUN_FOLDER MINUTES THREADS. TinyIMG took 30 minutes of 2 threads,
with BF16=0 (convolutions are six times slower in bfloat16 on a CPU) and LD_PRELOAD=libtcmalloc_minimal.so.4.
"""

import copy
import math
import os
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

import data

EMBEDDING_SIZE = 128
GROUPS = 8
BATCH = 48
LEARNING_RATE, LEARNING_RATE_AT_END = 1.5e-3, 0.03
WARM_UP_STEPS = 100
# How often a picture is shown without its condition (for classifier-free guidance), and without its background's colour.
DROPPED = 0.1
REPORT_STEPS = 50
SAVE_SECONDS = 180


class GroupNorm(nn.GroupNorm):
    """Computed in full precision."""

    def forward(self, x):
        return super().forward(x.float())


class ResidualBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts what is between them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1 = GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(EMBEDDING_SIZE, 2 * outputs)
        self.norm2 = GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, embedding):
        hidden = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        return self.skip(x) + self.conv2(F.silu(self.norm2(hidden) * (1 + scale) + shift))


def make_embedding(inputs):
    return nn.Sequential(
        nn.Linear(inputs, EMBEDDING_SIZE), nn.SiLU(), nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
    )


def enlarge(x):
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class FlowNet(nn.Module):
    """Says in which direction a picture at time `t` (0: noise, 1: picture) goes on, given the condition `c`."""

    def __init__(self, fine=64, middle=128, coarse=160):
        super().__init__()
        # Two by two pixels become channels: 3 colours make 12.
        channels = 12
        self.time_embedding = make_embedding(32)
        self.condition_embedding = make_embedding(data.CONDITION_SIZE)
        self.input = nn.Conv2d(channels, fine, 3, padding=1)
        self.down1 = ResidualBlock(fine, fine)
        self.shrink1 = nn.Conv2d(fine, middle, 3, 2, 1)
        self.down2 = ResidualBlock(middle, middle)
        self.shrink2 = nn.Conv2d(middle, coarse, 3, 2, 1)
        self.bottom1 = ResidualBlock(coarse, coarse)
        self.bottom2 = ResidualBlock(coarse, coarse)
        self.narrow2 = nn.Conv2d(coarse, middle, 1)
        self.up2 = ResidualBlock(2 * middle, middle)
        self.narrow1 = nn.Conv2d(middle, fine, 1)
        self.up1 = ResidualBlock(2 * fine, fine)
        self.output_norm = GroupNorm(GROUPS, fine)
        self.output = nn.Conv2d(fine, channels, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 16)))

    def forward(self, x, t, c):
        angles = t[:, None] * self.frequencies
        time_embedding = self.time_embedding(torch.cat([angles.sin(), angles.cos()], 1))
        embedding = F.silu(time_embedding + self.condition_embedding(c))
        fine = self.down1(self.input(F.pixel_unshuffle(x, 2)), embedding)
        middle = self.down2(self.shrink1(fine), embedding)
        coarse = self.bottom2(self.bottom1(self.shrink2(middle), embedding), embedding)
        up = self.up2(torch.cat([enlarge(self.narrow2(coarse)), middle], 1), embedding)
        up = self.up1(torch.cat([enlarge(self.narrow1(up)), fine], 1), embedding)
        return F.pixel_shuffle(self.output(F.silu(self.output_norm(up))), 2)


def learning_rate_at(step, fraction):
    """Warms up over the first steps, then follows a cosine over the time that there is."""
    warm_up = min(1, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * fraction))
    return LEARNING_RATE * warm_up * (LEARNING_RATE_AT_END + (1 - LEARNING_RATE_AT_END) * cosine)


def compute_loss(model, rng):
    """Rectified flow: between noise and picture the direction is their difference, all the way."""
    pictures, conditions = (torch.from_numpy(array) for array in data.draw_batch(rng, BATCH))
    conditions[torch.rand(BATCH) < DROPPED] = 0
    conditions[torch.rand(BATCH) < DROPPED, data.BACKGROUNDS_AT :] = 0
    times = torch.sigmoid(torch.randn(BATCH))
    noise = torch.randn_like(pictures)
    between = (1 - times)[:, None, None, None] * noise + times[:, None, None, None] * pictures
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=os.environ.get("BF16", "1") == "1"):
        direction = model(between, times, conditions)
    return F.mse_loss(direction.float(), pictures - noise)


def follow(averaged, model, step):
    """Moves the averaged weights, which are the result, a little towards the model's."""
    decay = min(0.995, (1 + step) / (10 + step))
    with torch.no_grad():
        for average, parameter in zip(averaged.parameters(), model.parameters()):
            average.lerp_(parameter, 1 - decay)


def train(folder, seconds):
    model = FlowNet()
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters", flush=True)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    rng = random.Random(3)
    began = saved = reported = time.time()
    step, loss_sum = 0, 0.0
    while (fraction := (time.time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, fraction)
        loss = compute_loss(model, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        loss_sum += loss.item()
        follow(averaged, model, step)
        now = time.time()
        if step % REPORT_STEPS == 0:
            speed = REPORT_STEPS * BATCH / (now - reported)
            print(
                f"step {step}, {now - began:.0f} s: loss {loss_sum / REPORT_STEPS:.4f}, {speed:.0f} images/s",
                flush=True,
            )
            loss_sum, reported = 0.0, now
        if now - saved > SAVE_SECONDS:
            torch.save(averaged.state_dict(), folder / "ema.pt")
            saved = now
    torch.save(averaged.state_dict(), folder / "ema.pt")
    print(f"done: {step} steps, {step * BATCH} images", flush=True)


def main(folder, minutes, threads):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    train(folder, float(minutes) * 60)


if __name__ == "__main__":
    main(*sys.argv[1:])
