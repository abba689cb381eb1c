"""The table of model families."""

from __future__ import annotations

import pytest

from providers.openai_images.families import FAMILIES, Family, FreeSize, family_of, known_models


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-image-1", "gpt-image-1"),
        ("openai-main/gpt-image-1", "gpt-image-1"),
        ("team/eu/openai-main/gpt-image-1-mini", "gpt-image-1.5"),
        ("chatgpt-image-latest", "gpt-image-1.5"),
        ("gpt-image-2-2026-04-21", "gpt-image-2"),
        ("openai-main/gpt-image-2.5-flare-2026-09-08", "gpt-image-2.5"),
        ("gpt-image-2.6-sunburst", "gpt-image-2.6"),
        ("dall-e-2", "dall-e-2"),
        ("azure/dall-e-3", "dall-e-3"),
    ],
)
def test_a_model_belongs_to_its_family_whatever_account_or_snapshot_it_is_asked_by(model: str, family: str) -> None:
    found = family_of(model)
    assert found is not None
    assert found.name == family


@pytest.mark.parametrize(
    "model", ["imagen-4", "gpt-image-1-turbo", "gpt-image-2-2026", "gpt-image-1/other", "", "/", "my-virtual-model"]
)
def test_a_name_that_only_looks_alike_has_no_family(model: str) -> None:
    assert family_of(model) is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_row_of_the_table_is_coherent(family: Family) -> None:
    assert all(family_of(model) is family for model in family.models)
    assert family.streams == (family.max_partial_images > 0)
    assert 1 <= family.max_images <= 10
    assert family.sizes
    assert family.qualities
    assert not (family.response_format and family.formats), "a family answers in one way or in the other"


def test_models_that_are_still_served_are_suggested_first() -> None:
    models = known_models()
    assert models[0].startswith("gpt-image-2.6")
    assert models[-1] == "dall-e-2"
    assert len(models) == len(set(models))


@pytest.mark.parametrize("size", ["1024x1024", "3840x2160", "2160x3840", "1536x512", "1824x1024", "1024x640"])
def test_a_free_size_within_the_bounds_is_accepted(size: str) -> None:
    assert FreeSize().problems(size) == ()


@pytest.mark.parametrize(
    ("size", "broken"),
    [
        ("bogus", ["WIDTHxHEIGHT"]),
        ("1024X1024", ["WIDTHxHEIGHT"]),
        ("01024x1024", ["WIDTHxHEIGHT"]),
        ("１０２４x1024", ["WIDTHxHEIGHT"]),
        ("1024x1024\n", ["WIDTHxHEIGHT"]),
        ("1000x1024", ["divisible by 16"]),
        ("1600x528", ["factor of 3"]),
        ("3840x2176", ["more than 8,294,400"]),
        ("3856x2144", ["exceed 3840"]),
        ("1008x640", ["fewer than 655,360"]),
        ("4001x100", ["divisible by 16", "exceed 3840", "factor of 3", "fewer than"]),
    ],
)
def test_every_bound_a_free_size_breaks_is_named(size: str, broken: list[str]) -> None:
    found = FreeSize().problems(size)
    assert len(found) == len(broken)
    assert all(word in clause for word, clause in zip(broken, found, strict=True))
