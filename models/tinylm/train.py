"""Trains TinyLM on a CPU: a language model of llama's architecture. Written for Debian's python3-torch 1.13.

Usage: train.py RUN_FOLDER MINUTES THREADS [setting=value ...]. TinyLM is
    train.py run 50 2 dim=160 layers=5 heads=5 kv=5 ffn=448 batch=8 lr=1.8e-3
with LD_PRELOAD=libtcmalloc_minimal.so.4, without which the memory allocator takes more time than the arithmetic.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

DEFAULTS = dict(
    dim=192,
    layers=6,
    heads=6,
    kv=6,
    ffn=512,
    vocab=2048,
    ctx=256,
    batch=24,
    lr=2e-3,
    theta=10000.0,
    eps=1e-5,
    bf16=1,
)
BEGINNING = 1
WARM_UP_STEPS = 60
LEARNING_RATE_AT_END = 0.02
REPORT_STEPS = 25
SAVE_SECONDS = 240
VALIDATION_TEXTS, VALIDATION_BATCH = 120, 24


class RMSNorm(nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.eps = settings["eps"]
        self.weight = nn.Parameter(torch.ones(settings["dim"]))

    def forward(self, x):
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Rotation:
    """Rotary position embedding of neighbouring pairs, as llama.cpp has it for llama: no permutation is needed."""

    def __init__(self, settings):
        head_dim = settings["dim"] // settings["heads"]
        frequencies = 1.0 / (settings["theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim))
        angles = torch.outer(torch.arange(settings["ctx"]).float(), frequencies)
        self.cos = angles.cos().repeat_interleave(2, -1)[None, None]
        self.sin = angles.sin().repeat_interleave(2, -1)[None, None]

    def __call__(self, x):
        turned = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
        return x * self.cos + turned * self.sin


class Block(nn.Module):
    def __init__(self, settings, rotate, mask):
        super().__init__()
        dim, ffn = settings["dim"], settings["ffn"]
        self.settings, self.rotate, self.mask = settings, rotate, mask
        self.attention_norm = RMSNorm(settings)
        self.ffn_norm = RMSNorm(settings)
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_output = nn.Linear(dim, dim, bias=False)
        self.gate_up = nn.Linear(dim, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, dim, bias=False)

    def forward(self, x):
        dim, heads, length = self.settings["dim"], self.settings["heads"], self.settings["ctx"]
        head_dim = dim // heads
        projected = self.query_key_value(self.attention_norm(x)).split(dim, -1)
        query, key, value = [part.view(-1, length, heads, head_dim).transpose(1, 2) for part in projected]
        scores = torch.matmul(self.rotate(query.float()), self.rotate(key.float()).transpose(-1, -2)).float()
        attention = (scores * (head_dim**-0.5) + self.mask).softmax(-1)
        x = x + self.attention_output(torch.matmul(attention, value).transpose(1, 2).reshape(-1, length, dim))
        gate, up = self.gate_up(self.ffn_norm(x)).split(self.settings["ffn"], -1)
        return x + self.down(F.silu(gate) * up)


class LanguageModel(nn.Module):
    """The embedding is also the output layer."""

    def __init__(self, settings):
        super().__init__()
        length, layers = settings["ctx"], settings["layers"]
        rotate = Rotation(settings)
        mask = torch.full((length, length), float("-inf")).triu(1)
        self.vocab = settings["vocab"]
        self.embedding = nn.Embedding(settings["vocab"], settings["dim"])
        self.blocks = nn.ModuleList([Block(settings, rotate, mask) for _ in range(layers)])
        self.norm = RMSNorm(settings)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)
        for block in self.blocks:
            nn.init.normal_(block.attention_output.weight, 0, 0.02 / math.sqrt(2 * layers))
            nn.init.normal_(block.down.weight, 0, 0.02 / math.sqrt(2 * layers))

    def forward(self, ids, targets):
        """The loss of predicting each next token."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight).float()
        return F.cross_entropy(logits.view(-1, self.vocab), targets.reshape(-1))


class Tokens:
    """The encoded corpus. Half of a batch begins at the beginning of a document, half anywhere."""

    def __init__(self, path, length):
        self.ids = np.memmap(path, dtype=np.uint16, mode="r")
        self.length = length
        self.beginnings = np.where(self.ids[: -length - 1] == BEGINNING)[0]

    def draw(self, rng, count):
        anywhere = len(self.ids) - self.length - 1
        starts = np.where(
            rng.random(count) < 0.5, rng.choice(self.beginnings, count), rng.integers(0, anywhere, count)
        )
        return self.texts_at(starts)

    def spread(self, count):
        """Texts at even distances, always the same."""
        return self.texts_at(np.linspace(0, len(self.ids) - self.length - 2, count).astype(int))

    def texts_at(self, starts):
        texts = np.stack([self.ids[start : start + self.length + 1] for start in starts]).astype(np.int64)
        texts = torch.from_numpy(texts)
        return texts[:, :-1].contiguous(), texts[:, 1:].contiguous()


def in_bfloat16(settings):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(settings["bf16"]))


def validate(model, tokens, settings):
    model.eval()
    ids, targets = tokens.spread(VALIDATION_TEXTS)
    with torch.no_grad(), in_bfloat16(settings):
        losses = [
            model(ids[at : at + VALIDATION_BATCH], targets[at : at + VALIDATION_BATCH]).item()
            for at in range(0, VALIDATION_TEXTS, VALIDATION_BATCH)
        ]
    model.train()
    return float(np.mean(losses))


def save(model, settings, folder):
    unfinished = folder / "model.pt.tmp"
    torch.save({"settings": settings, "weights": model.state_dict()}, unfinished)
    os.replace(unfinished, folder / "model.pt")


def make_optimizer(model, settings):
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings["lr"], betas=(0.9, 0.95))


def learning_rate_at(step, fraction, settings):
    """Warms up over the first steps, then follows a cosine over the time that there is."""
    warm_up = min(1, (step + 1) / WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * fraction))
    return settings["lr"] * warm_up * (LEARNING_RATE_AT_END + (1 - LEARNING_RATE_AT_END) * cosine)


def train(model, settings, folder, seconds):
    training = Tokens("corpus/train.bin", settings["ctx"])
    validation = Tokens("corpus/val.bin", settings["ctx"])
    optimizer = make_optimizer(model, settings)
    rng = np.random.default_rng(1)
    began = saved = reported = time.time()
    step, loss_sum = 0, 0.0
    while (fraction := (time.time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, fraction, settings)
        ids, targets = training.draw(rng, settings["batch"])
        with in_bfloat16(settings):
            loss = model(ids, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        loss_sum += loss.item()
        now = time.time()
        if step % REPORT_STEPS == 0:
            speed = REPORT_STEPS * settings["batch"] * settings["ctx"] / (now - reported)
            print(
                f"step {step}, {now - began:.0f} s: loss {loss_sum / REPORT_STEPS:.3f}, {speed:.0f} tokens/s",
                flush=True,
            )
            loss_sum, reported = 0.0, now
        if now - saved > SAVE_SECONDS:
            print(f"validation loss {validate(model, validation, settings):.3f}", flush=True)
            save(model, settings, folder)
            saved = reported = time.time()
    print(f"validation loss {validate(model, validation, settings):.3f} after {step} steps", flush=True)
    save(model, settings, folder)


def read_settings(arguments):
    settings = dict(DEFAULTS)
    for argument in arguments:
        name, value = argument.split("=")
        settings[name] = type(DEFAULTS[name])(value)
    return settings


def main(folder, minutes, threads, *arguments):
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    settings = read_settings(arguments)
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    model = LanguageModel(settings)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters", settings, flush=True)
    train(model, settings, folder, float(minutes) * 60)


if __name__ == "__main__":
    main(*sys.argv[1:])
