"""Generates the part of TinyLM's corpus that is ours: small children's stories, questions and answers.

Everything is drawn from a `random.Random` that the caller seeds: the same seed gives the same text.
"""

import json
import random
from pathlib import Path
from typing import NamedTuple

GIRLS = "Lily Mia Anna Sara Ella Rosa Nora Zoe Emma Ruby Ivy Clara Amy Lucy Maya Tess".split()
BOYS = "Tom Ben Max Sam Leo Jack Finn Owen Noah Hugo Eli Luke Adam Dan Kai Theo".split()
ANIMALS = (
    "cat dog rabbit fox bear owl mouse duck frog turtle pony lamb squirrel hedgehog bee robot dragon elephant lion bird"
).split()
ADJECTIVES = "little brave kind shy curious clever happy sleepy gentle funny young quiet".split()
PLACES = (
    "forest garden village beach park farm castle mountain city river school library market meadow".split()
)
OBJECTS = "ball kite lamp book hat drum boat basket key coin bell blanket map shell star stone ribbon cake apple box".split()
COLOURS = "red blue green yellow golden silver purple white orange pink tiny shiny old".split()
WEATHERS = ["sunny", "rainy", "windy", "cold", "warm", "foggy", "snowy", "bright"]
FOODS = "bread soup honey berries cookies cheese pie apples pancakes nuts".split()
BAD_FEELINGS = ["sad", "worried", "scared", "lonely", "tired", "angry"]
GOOD_FEELINGS = ["happy", "proud", "glad", "brave", "safe", "thankful"]
MORALS = [
    "it is good to share",
    "friends help each other",
    "it is best to tell the truth",
    "being kind is better than being strong",
    "you should never give up",
    "a small friend can be a big help",
    "it is fine to ask for help",
    "sharing makes every day better",
    "patience is worth more than hurry",
]
# he, him, his, and the capitalised he and his
PRONOUNS = {"f": ("she", "her", "her", "She", "Her"), "m": ("he", "him", "his", "He", "His")}

KNOWLEDGE = json.loads((Path(__file__).parent / "facts.json").read_text())
FACTS = [(fact["question"], fact["answer"]) for fact in KNOWLEDGE["facts"]]
CAPITALS = KNOWLEDGE["capitals"]


def with_article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


class Hero(NamedTuple):
    """Someone in a story. `introduction` is like "a brave girl named Lily"."""

    name: str
    gender: str
    introduction: str

    @property
    def kind(self):
        """The introduction without the name: "a brave girl"."""
        return self.introduction.split(" named")[0]

    @property
    def pronouns(self):
        return PRONOUNS[self.gender]


def make_hero(rng):
    draw = rng.random()
    if draw < 0.4:
        name = rng.choice(GIRLS)
        kind = rng.choice(["girl", "little girl", rng.choice(ADJECTIVES) + " girl"])
        return Hero(name, "f", f"a {kind} named {name}")
    if draw < 0.8:
        name = rng.choice(BOYS)
        kind = rng.choice(["boy", "little boy", rng.choice(ADJECTIVES) + " boy"])
        return Hero(name, "m", f"a {kind} named {name}")
    animal = rng.choice(ANIMALS)
    gender = rng.choice("fm")
    name = rng.choice(GIRLS if gender == "f" else BOYS)
    adjective = rng.choice(ADJECTIVES)
    return Hero(name, gender, f"{with_article(adjective + ' ' + animal)} named {name}")


class Scene(NamedTuple):
    """All that a story is told with."""

    hero: Hero
    friend: Hero
    place: str
    other_place: str
    object: str
    coloured_object: str
    colour: str
    food: str
    weather: str
    bad: str
    good: str
    moral: str


def make_scene(rng):
    hero = make_hero(rng)
    friend = make_hero(rng)
    while friend.name == hero.name:
        friend = make_hero(rng)
    place = rng.choice(PLACES)
    other_place = rng.choice([other for other in PLACES if other != place])
    thing = rng.choice(OBJECTS)
    colour = rng.choice(COLOURS)
    food = rng.choice(FOODS)
    weather = rng.choice(WEATHERS)
    bad = rng.choice(BAD_FEELINGS)
    good = rng.choice(GOOD_FEELINGS)
    moral = rng.choice(MORALS)
    return Scene(
        hero, friend, place, other_place, thing, f"{colour} {thing}", colour, food, weather, bad, good, moral
    )


def make_story(rng):
    """A story of 8 to 11 sentences, in paragraphs of 2 to 4, one paragraph a line."""
    scene = make_scene(rng)
    sentences = tell_beginning(rng, scene)
    plots = [tell_of_a_loss, tell_of_sharing, tell_of_a_fright, tell_of_making, tell_of_the_truth]
    sentences += plots[rng.randrange(5)](rng, scene)
    sentences += tell_end(rng, scene)
    return "\n".join(make_paragraphs(rng, [sentence for sentence in sentences if sentence]))


def make_paragraphs(rng, sentences):
    paragraphs = []
    start = 0
    while start < len(sentences):
        length = rng.choice([2, 3, 3, 4])
        paragraphs.append(" ".join(sentences[start : start + length]))
        start += length
    return paragraphs


def tell_beginning(rng, scene):
    name, place, weather, food = scene.hero.name, scene.place, scene.weather, scene.food
    introduction = scene.hero.introduction
    he, him, _his, He, His = scene.hero.pronouns
    one_object = with_article(scene.coloured_object)
    return [
        rng.choice(
            [
                f"Once upon a time, there was {introduction}. {name} lived near the {place}.",
                f"One day, {introduction} went to the {place}.",
                f"There once was {introduction}. Every day {he} played in the {place}.",
                f"It was a {weather} day. {name}, {scene.hero.kind}, wanted to go to the {place}.",
                f"In a small house by the {place}, there lived {introduction}.",
            ]
        ),
        rng.choice(
            [
                f"{He} had {one_object} and {he} loved it very much.",
                f"{name} liked to eat {food} and to look at the clouds.",
                f"{His} favorite thing was {one_object}.",
                f"{name} always carried {one_object} with {him}.",
            ]
        ),
    ]


def tell_of_a_loss(rng, scene):
    name, friend, thing, bad = scene.hero.name, scene.friend.name, scene.object, scene.bad
    he, _him, _his, He, _His = scene.hero.pronouns
    he2 = scene.friend.pronouns[0]
    return [
        rng.choice(
            [
                f"But one morning, the {scene.coloured_object} was gone! {name} was very {bad}.",
                f"Then the wind blew and the {scene.coloured_object} flew away. {name} felt {bad}.",
            ]
        ),
        rng.choice(
            [
                f"{He} looked under the bed. {He} looked behind the door. The {thing} was not there.",
                f"{He} looked in the {scene.other_place} and in the {scene.place}, but {he} could not find the {thing}.",
            ]
        ),
        f'On the way, {name} met {scene.friend.introduction}. "Why are you {bad}?" asked {friend}.',
        f'"I lost my {thing}," said {name}. "I will help you," said {friend}.',
        rng.choice(
            [
                f"They walked to the {scene.other_place} together and saw something {scene.colour} in the grass."
                f" It was the {thing}!",
                f'{friend} climbed up a tall tree and looked around. "I see it!" {he2} said.'
                f" The {thing} was on a branch.",
            ]
        ),
    ]


def tell_of_sharing(rng, scene):
    name, friend, food = scene.hero.name, scene.friend.name, scene.food
    he, _him, _his, He, _His = scene.hero.pronouns
    he2 = scene.friend.pronouns[0]
    return [
        f"One day, {name} met {scene.friend.introduction} at the {scene.place}."
        f" {friend} was {scene.bad} because {he2} had nothing to eat.",
        f"{name} had some {food}, but {he} was hungry too. {He} thought about it for a while.",
        rng.choice(
            [
                f'"Here," said {name}. "We can share my {food}."',
                f'"You can have half of my {food}," said {name} with a smile.',
            ]
        ),
        f'{friend} ate the {food} and smiled. "Thank you, {name}. You are very kind," {he2} said.',
        rng.choice(
            [
                f"Then {friend} gave {name} {with_article(scene.coloured_object)} as a gift.",
                "After that, they played together until the sun went down.",
            ]
        ),
    ]


def tell_of_a_fright(rng, scene):
    name, friend = scene.hero.name, scene.friend.name
    he, _him, his, He, _His = scene.hero.pronouns
    him2 = scene.friend.pronouns[1]
    return [
        f"One night, {name} heard a strange sound in the {scene.other_place}."
        f" {He} was {rng.choice(['scared', 'worried'])}.",
        f'"Who is there?" asked {name}. The sound came again, louder than before.',
        f"{name} held {his} {scene.object} and walked slowly to the {scene.other_place}."
        f" There, {he} saw {scene.friend.introduction}.",
        f"\"I am {rng.choice(['lost', 'cold', 'stuck'])},\" said {friend}. \"Can you help me?\"",
        f"{name} was not {rng.choice(['scared', 'worried'])} anymore."
        f" {He} took {friend} home and gave {him2} some {scene.food}.",
    ]


def tell_of_making(rng, scene):
    name, friend, thing = scene.hero.name, scene.friend.name, scene.object
    _he, him, his, He, _His = scene.hero.pronouns
    return [
        f"{name} wanted to make {with_article(rng.choice(['big', 'beautiful', 'new']))} {thing} for {his}"
        f" {rng.choice(['mother', 'father', 'grandmother', 'teacher', 'friend'])}.",
        f"{He} tried once, but the {thing} broke. {He} tried again, but it broke again. {name} felt {scene.bad}.",
        f'{friend}, {scene.friend.kind}, saw {him} and said, "Do not give up. Let us try together."',
        f"They worked all day in the {scene.place}."
        f" They used {rng.choice(['wood', 'paper', 'string', 'leaves', 'paint'])}"
        f" and {rng.choice(['glue', 'stones', 'feathers', 'flowers', 'shells'])}.",
        f"At last, the {thing} was ready. It was {scene.colour}"
        f" and very {rng.choice(['beautiful', 'strong', 'pretty'])}.",
    ]


def tell_of_the_truth(rng, scene):
    name, friend, thing = scene.hero.name, scene.friend.name, scene.object
    he, _him, _his, He, _His = scene.hero.pronouns
    he2 = scene.friend.pronouns[0]
    return [
        f"One day, {name} was playing and broke the {scene.coloured_object} of {friend}, {scene.friend.kind}."
        f" {He} was {rng.choice(['scared', 'worried'])} and hid it in the {scene.other_place}.",
        f'"Did you see my {thing}?" asked {friend}. {name} looked at the ground and did not know what to say.',
        f"That night {name} could not sleep."
        f' In the morning, {he} went to {friend} and said, "I broke your {thing}. I am sorry."',
        f"{friend} was {rng.choice(['quiet', 'surprised'])} for a moment."
        f' Then {he2} said, "Thank you for telling me. We can fix it."',
        f"They fixed the {thing} with {rng.choice(['glue', 'string', 'tape'])} and it looked like new.",
    ]


def tell_end(rng, scene):
    name, friend, good = scene.hero.name, scene.friend.name, scene.good
    return [
        rng.choice(
            [
                f"{name} was very {good}.",
                f"{name} and {friend} felt {good} and they hugged.",
                f'{name} laughed and said, "This is the best day ever!"',
                f"From that day on, {name} and {friend} were best friends.",
            ]
        ),
        rng.choice(
            [
                f"{name} learned that {scene.moral}.",
                f"And {name} knew that {scene.moral}.",
                "The end.",
                f"That night, {name} slept well and dreamed of the {scene.place}.",
                "",
            ]
        ),
    ]


def vary_question(rng, question):
    """The same question as other people would ask it."""
    is_asked = question.endswith("?")
    return rng.choice(
        [
            question,
            question,
            question.lower() if len(question) > 6 else question,
            question.rstrip("?"),
            "Please tell me: " + question[0].lower() + question[1:] if is_asked else question,
            (
                question.replace("What is", "Explain what", 1).rstrip("?") + " is"
                if question.startswith("What is a ")
                else question
            ),
            (
                question.replace("What is", "Tell me about", 1).rstrip("?") + "."
                if question.startswith("What is")
                else question
            ),
        ]
    )


def make_turn(rng):
    """A question and its answer: a fact, a capital, a sum or a story."""
    draw = rng.random()
    if draw < 0.62:
        question, answer = rng.choice(FACTS)
        return vary_question(rng, question), answer
    if draw < 0.75:
        country = rng.choice(list(CAPITALS))
        asked = rng.choice(
            [
                f"What is the capital of {country}?",
                f"Tell me the capital of {country}.",
                f"what is the capital of {country}",
            ]
        )
        return asked, f"The capital of {country} is {CAPITALS[country]}."
    if draw < 0.85:
        first, second = rng.randrange(10), rng.randrange(10)
        asked = rng.choice([f"What is {first} plus {second}?", f"What is {first} + {second}?"])
        return asked, f"{first} plus {second} is {first + second}."
    story = make_story(rng).replace("\n", " ")
    asked = rng.choice(
        [
            "Tell me a story.",
            "Write a story.",
            "Tell me a short story",
            "write a short story",
            "Please tell me a story about a friend.",
        ]
    )
    return asked, story


def make_conversations(rng, count):
    """Conversations of one to three turns, as lines of "Q: …" and "A: …"."""
    conversations = []
    for _ in range(count):
        turns = [make_turn(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        conversations.append("\n".join(f"Q: {question}\nA: {answer}" for question, answer in turns))
    return conversations


if __name__ == "__main__":
    show = random.Random(1)
    for _ in range(3):
        print(make_story(show), "---", sep="\n")
    for conversation in make_conversations(show, 4):
        print(conversation, "---", sep="\n")
