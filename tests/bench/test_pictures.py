"""The pictures of the measurements: real files, each of them another one."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

from bench.pictures import KINDS, STAGES, Picture, Stage, load, make, mark_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = tmp_path_factory.mktemp("pictures")
    make(drawn, ["small", "png-100k", "jpeg-100k"])
    return drawn


@pytest.fixture(params=["small", "png-100k", "jpeg-100k"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=STAGES)
def picture(folder: Path, kind: str, request: pytest.FixtureRequest) -> Picture:
    stage: Stage = request.param
    return load(folder, kind, stage)


def test_every_mark_makes_another_file_that_still_opens(picture: Picture, kind: str) -> None:
    files = [b64decode(picture.base64(mark), validate=True) for mark in (1, 2, 9_999_999_999)]
    assert len(set(files)) == 3
    for file, mark in zip(files, (1, 2, 9_999_999_999), strict=True):
        with Image.open(io.BytesIO(file)) as opened:
            opened.load()
            assert opened.size == (KINDS[kind].width, KINDS[kind].height)
            assert (opened.format or "").lower() == picture.format
        assert mark_of(file) == mark
        assert len(file) == picture.size


def test_a_file_of_another_maker_has_no_mark(folder: Path) -> None:
    assert mark_of((folder / "small.final").read_bytes()) is None


def test_pictures_have_about_the_size_they_are_named_after(picture: Picture, kind: str) -> None:
    if KINDS[kind].size:
        assert picture.size == pytest.approx(KINDS[kind].size, rel=0.2)
