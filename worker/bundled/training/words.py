"""What the demonstration model knows: its pictograms, its colours, and how it says them."""

# Word -> Unicode code points of the pictogram, as file names of the sprite sets spell them.
NOUNS = {
    "dog": "1f415",
    "cat": "1f408",
    "fish": "1f41f",
    "elephant": "1f418",
    "turtle": "1f422",
    "snake": "1f40d",
    "butterfly": "1f98b",
    "bee": "1f41d",
    "penguin": "1f427",
    "owl": "1f989",
    "octopus": "1f419",
    "crab": "1f980",
    "frog": "1f438",
    "giraffe": "1f992",
    "red apple": "1f34e",
    "banana": "1f34c",
    "grapes": "1f347",
    "strawberry": "1f353",
    "watermelon": "1f349",
    "lemon": "1f34b",
    "carrot": "1f955",
    "mushroom": "1f344",
    "pizza": "1f355",
    "hamburger": "1f354",
    "cactus": "1f335",
    "sunflower": "1f33b",
    "tree": "1f333",
    "car": "1f697",
    "bicycle": "1f6b2",
    "airplane": "2708",
    "rocket": "1f680",
    "sailboat": "26f5",
    "bus": "1f68c",
    "soccer ball": "26bd",
    "basketball": "1f3c0",
    "guitar": "1f3b8",
    "key": "1f511",
    "scissors": "2702",
    "umbrella": "2602",
    "bell": "1f514",
    "balloon": "1f388",
    "light bulb": "1f4a1",
    "chair": "1fa91",
    "house": "1f3e0",
    "star": "2b50",
    "rainbow": "1f308",
    "crown": "1f451",
    "camera": "1f4f7",
}

# Word -> the hue it names, RGB. Scenes vary it by JITTER in every channel.
COLOURS = {
    "red": (214, 40, 40),
    "orange": (247, 140, 30),
    "yellow": (250, 220, 60),
    "green": (60, 160, 70),
    "turquoise": (64, 205, 195),
    "blue": (50, 100, 210),
    "purple": (130, 60, 170),
    "pink": (250, 160, 190),
    "brown": (125, 80, 45),
    "black": (22, 22, 24),
    "grey": (135, 138, 140),
    "white": (246, 246, 244),
}
JITTER = 10

# Things that come in several, or are one word for several: no article.
_BARE = {"grapes", "scissors"}


def named(noun: str) -> str:
    """The noun with its article."""
    if noun in _BARE:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def caption(nouns: list[str], colour: str) -> str:
    """What is to be said of a scene: nouns from left to right, then the background."""
    return f"{' and '.join(named(n) for n in nouns)} on {named(colour)} background"
