"""Draws TinyIMG's training data as it is needed: emoji and shapes on coloured backgrounds, with what they show.

Emoji come from the Debian package fonts-noto-color-emoji (images Apache-2.0, font OFL-1.1). Run as a program, it writes
vocab.json and a sheet of samples, data.png.
"""

import json
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 32
FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
# The font has bitmaps of one size only.
FONT_SIZE, GLYPH_BOX = 109, (136, 128)
SPRITE_SIZE = 96
EMOJI = {
    "cat": "🐱",
    "dog": "🐶",
    "fox": "🦊",
    "bear": "🐻",
    "panda": "🐼",
    "lion": "🦁",
    "frog": "🐸",
    "owl": "🦉",
    "penguin": "🐧",
    "fish": "🐟",
    "octopus": "🐙",
    "robot": "🤖",
    "ghost": "👻",
    "rocket": "🚀",
    "car": "🚗",
    "house": "🏠",
    "tree": "🌳",
    "flower": "🌻",
    "rose": "🌹",
    "apple": "🍎",
    "banana": "🍌",
    "pizza": "🍕",
    "cake": "🎂",
    "heart": "❤",
    "star": "⭐",
    "sun": "☀",
    "moon": "🌙",
    "mushroom": "🍄",
    "balloon": "🎈",
    "crown": "👑",
    "guitar": "🎸",
    "smile": "😀",
}
SHAPES = ["circle", "square", "triangle", "ring"]
OBJECTS = [*EMOJI, *SHAPES]
COLOURS = {
    "red": (220, 50, 47),
    "orange": (245, 140, 40),
    "yellow": (245, 215, 60),
    "green": (60, 170, 80),
    "blue": (50, 110, 220),
    "purple": (140, 80, 200),
    "pink": (245, 150, 190),
    "white": (245, 245, 245),
    "black": (30, 30, 34),
    "gray": (140, 140, 145),
    "brown": (130, 85, 50),
    "teal": (40, 170, 170),
}
COLOUR_NAMES = list(COLOURS)
# A condition is one number for each object, each colour of the object (none: its own) and each of the background.
OBJECT_COLOURS_AT = len(OBJECTS)
BACKGROUNDS_AT = OBJECT_COLOURS_AT + len(COLOUR_NAMES)
CONDITION_SIZE = BACKGROUNDS_AT + len(COLOUR_NAMES)
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)


@cache
def load_sprites():
    """An image with transparency for each object, in the order of OBJECTS."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    return [draw_emoji(font, text) for text in EMOJI.values()] + [draw_shape(name) for name in SHAPES]


def draw_emoji(font, text):
    glyph = Image.new("RGBA", GLYPH_BOX, (0, 0, 0, 0))
    ImageDraw.Draw(glyph).text((0, 0), text, font=font, embedded_color=True)
    glyph = glyph.crop(glyph.getbbox())
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return square.resize((SPRITE_SIZE, SPRITE_SIZE), Image.LANCZOS)


def draw_shape(name):
    image = Image.new("RGBA", (384, 384), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    fill = (128, 128, 128, 255)
    if name == "square":
        draw.rectangle((40, 40, 344, 344), fill=fill)
    elif name == "triangle":
        draw.polygon([(192, 20), (370, 350), (14, 350)], fill=fill)
    else:
        draw.ellipse((20, 20, 364, 364), fill=fill)
    if name == "ring":
        draw.ellipse((110, 110, 274, 274), fill=(0, 0, 0, 0))
    return image.resize((SPRITE_SIZE, SPRITE_SIZE), Image.LANCZOS)


def recolour(rgb, colour, is_shape):
    """A shape takes the colour as it is; of an emoji the light and the dark stay."""
    target = np.array(colour, np.float32)
    if is_shape:
        return np.broadcast_to(target, rgb.shape)
    light = (rgb @ LUMINANCE)[..., None] / 255
    return np.where(light < 0.5, target * light * 2, target + (255 - target) * (light - 0.5) * 1.2)


def make_background(rng, colour):
    """The colour, a little off, with a light fall from top to bottom."""
    base = np.array(colour, np.float32) + np.array([rng.uniform(-10, 10) for _ in range(3)], np.float32)
    fall = np.linspace(rng.uniform(0, 18), -rng.uniform(0, 18), SIZE, dtype=np.float32)[:, None, None]
    return (np.broadcast_to(base, (SIZE, SIZE, 3)) + fall).copy()


def draw_sample(rng):
    """A picture (rows of RGB from -1 to 1) and its condition."""
    condition = np.zeros(CONDITION_SIZE, np.float32)
    index = rng.randrange(len(OBJECTS))
    is_shape = index >= len(EMOJI)
    background = rng.randrange(len(COLOUR_NAMES))
    condition[index] = 1
    condition[BACKGROUNDS_AT + background] = 1
    colour = None
    if is_shape or rng.random() < 0.3:
        colour = rng.choice([other for other in range(len(COLOUR_NAMES)) if other != background])
        condition[OBJECT_COLOURS_AT + colour] = 1

    side = rng.randint(24, 29)
    sprite = load_sprites()[index]
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.FLIP_LEFT_RIGHT)
    pixels = np.asarray(sprite.resize((side, side), Image.BILINEAR, reducing_gap=2.0), np.float32)
    rgb, alpha = pixels[..., :3], pixels[..., 3:] / 255
    if colour is not None:
        rgb = recolour(rgb, COLOURS[COLOUR_NAMES[colour]], is_shape)

    picture = make_background(rng, COLOURS[COLOUR_NAMES[background]])
    left = place_near_middle(rng, side)
    top = place_near_middle(rng, side)
    under = picture[top : top + side, left : left + side]
    picture[top : top + side, left : left + side] = under * (1 - alpha) + rgb * alpha
    return np.clip(picture, 0, 255) / 127.5 - 1, condition


def place_near_middle(rng, side):
    return max(0, min(SIZE - side, (SIZE - side) // 2 + rng.randint(-1, 1)))


def draw_batch(rng, count):
    """Pictures as planes of colour, and their conditions."""
    pictures, conditions = zip(*[draw_sample(rng) for _ in range(count)])
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32), np.stack(conditions)


def main():
    columns, rows = 20, 10
    pictures, _ = draw_batch(random.Random(1), columns * rows)
    sheet = Image.new("RGB", (SIZE * columns, SIZE * rows))
    for index, planes in enumerate(pictures):
        picture = Image.fromarray(((planes.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8))
        sheet.paste(picture, ((index % columns) * SIZE, (index // columns) * SIZE))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.NEAREST).save("data.png")
    with open("vocab.json", "w") as file:
        json.dump({"objects": OBJECTS, "colors": COLOUR_NAMES, "size": SIZE}, file)


if __name__ == "__main__":
    main()
