"""The closed lists of values of an All-Images.ai generation (contract all-images §2.1 and §2.2)."""

from __future__ import annotations

from providers.described import DescribedEnum


class AllImagesMode(DescribedEnum):
    """How a prompt is read."""

    SIMPLE = "simple", "A plain description, with parameters for the rest."
    ADVANCED = "advanced", 'A raw Midjourney "imagine" prompt, parameters such as `--ar 3:2` included.'


class AllImagesProcessMode(DescribedEnum):
    """How quickly a generation is made; only for accounts with the "Dedicated" offer."""

    FAST = "fast", "At once; uses up the quota of fast generations."
    RELAX = "relax", "When there is room; can take much longer."


class AllImagesTemplatePrompt(DescribedEnum):
    """The photo type of a picture made in simple mode."""

    REALISTIC_QUALITY = "realisticQuality", "A realistic photo of high quality."
    REALISTIC_MANUEL = "realisticManuel", "A realistic photo as taken with a smartphone."


class AllImagesFormat(DescribedEnum):
    """The shape of a picture, width to height."""

    SQUARE_1_1 = "1:1", "Square, 1:1."
    LANDSCAPE_3_2 = "3:2", "Landscape, 3:2."
    PORTRAIT_2_3 = "2:3", "Portrait, 2:3."
    PORTRAIT_4_7 = "4:7", "Portrait, 4:7."
    LANDSCAPE_7_4 = "7:4", "Landscape, 7:4."
    LANDSCAPE_5_4 = "5:4", "Landscape, 5:4."
    PORTRAIT_4_5 = "4:5", "Portrait, 4:5."
    LANDSCAPE_16_9 = "16:9", "Landscape, 16:9, like a screen."
    PORTRAIT_9_16 = "9:16", "Portrait, 9:16, like a phone."


class AllImagesWeather(DescribedEnum):
    """The weather in a picture."""

    SUNNY = "sunny", "Sunshine."
    CLOUDY = "cloudy", "Clouds."
    FOGGY = "foggy", "Fog."
    RAINY = "rainy", "Rain."
    THUNDERSTORM = "thunderstorm", "A thunderstorm."
    SNOWY = "snowy", "Snow."


class AllImagesTime(DescribedEnum):
    """The time of day in a picture, which changes its colours."""

    SUNRISE = "sunrise", "Sunrise."
    MORNING = "morning", "Morning."
    AFTERNOON = "afternoon", "Afternoon."
    SUNSET = "sunset", "Sunset."
    EVENING = "evening", "Evening."
    GOLDEN_HOUR = "golden hour", "The golden hour, with the sun low and warm."
    NIGHT = "night", "Night."
    MIDNIGHT = "midnight", "Midnight."
