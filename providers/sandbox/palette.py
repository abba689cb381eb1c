"""The moods a sandbox picture can have: colours made to sit well together, from far sky to near ground."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


def colour(text: str) -> Colour:
    """`"#ff8800"` as red, green and blue, 0–255 each."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """`first` at 0, `second` at 1, in between what lies between."""
    return (
        round(first[0] + (second[0] - first[0]) * amount),
        round(first[1] + (second[1] - first[1]) * amount),
        round(first[2] + (second[2] - first[2]) * amount),
    )


@dataclass(frozen=True, slots=True)
class Palette:
    """One mood. `sky` runs from the zenith to the horizon, `far` and `near` are what the ground fades between.

    A prompt with one of the `mood` words means this palette; one of the `subjects` only suggests it.
    """

    name: str
    mood: frozenset[str]
    subjects: frozenset[str]
    sky: tuple[Colour, Colour, Colour]
    light: Colour
    far: Colour
    near: Colour
    night: bool = False

    @property
    def haze(self) -> Colour:
        return self.sky[2]

    @property
    def ink(self) -> Colour:
        """Dark enough to be read on paper."""
        return mix(self.near, (18, 18, 22), 0.45)

    def fits(self, words: frozenset[str]) -> int:
        """How well it suits a prompt made of these words."""
        return 3 * len(self.mood & words) + len(self.subjects & words)


def _palette(name: str, mood: str, subjects: str, colours: str, *, night: bool = False) -> Palette:
    top, middle, horizon, light, far, near = (colour(part) for part in colours.split())
    sky = (top, middle, horizon)
    return Palette(name, frozenset([name, *mood.split()]), frozenset(subjects.split()), sky, light, far, near, night)


PALETTES: tuple[Palette, ...] = (
    _palette("dawn", "sunrise morning pink", "pastel soft", "#34406f #c0708a #fbc9a6 #fff3d8 #b98791 #2c1d40"),
    _palette(
        "golden", "gold sunset evening autumn", "warm amber lion", "#33587f #e29c72 #fde2a0 #fffae0 #cf9468 #3f1f22"
    ),
    _palette(
        "teal", "fog mist misty foggy rain", "calm quiet spring", "#4d9aa0 #b9ddcf #fdf3dc #fffdf0 #86b5b0 #10363f"
    ),
    _palette(
        "night",
        "midnight moon moonlight stars",
        "dark owl space",
        "#070b22 #16265a #4a62a8 #f7f2dd #33467f #050816",
        night=True,
    ),
    _palette(
        "aurora",
        "arctic northern lights",
        "neon cyberpunk",
        "#030f1d #0b3a47 #2d8a78 #eafff5 #1f5a60 #020b12",
        night=True,
    ),
    _palette("dusk", "twilight violet purple", "dream magic", "#1f1450 #80318f #ff937c #ffe6c6 #93447f #1a0c30"),
    _palette("noon", "summer sunny", "desert sand dune dunes hot", "#4ba3cf #bfe0e6 #fdebc8 #fffef6 #e2a873 #7c3517"),
    _palette(
        "green",
        "meadow spring",
        "forest wood woods jungle garden tree trees",
        "#8fbf9f #d3e6c0 #faf5da #fffce6 #8db48b #143020",
    ),
    _palette("winter", "snow snowy frost frozen", "ice cold white", "#7fa6cb #cfe0ee #fbf5f2 #ffffff #a6bdd4 #1f3557"),
    _palette(
        "crimson", "red storm stormy fire", "dragon lava war mars", "#2b0a16 #a3203a #ff9d5c #ffecc0 #96283c #170609"
    ),
    _palette("rose", "lavender pink", "love flower flowers cat", "#6a5aa0 #e09fc4 #ffe3cf #fff8ea #b07fae #33204f"),
    _palette(
        "ocean",
        "blue",
        "sea water waves lake boat ship fish sailing",
        "#0f6aa0 #6fc3d6 #e6f6ec #fffff2 #4d9fb8 #06324c",
    ),
)
