import re
from pathlib import Path

import pytest
from PIL import Image

from website.gallery import FOLDER, PICTURES, make

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"


def test_the_page_shows_every_picture_and_says_how_it_is_made() -> None:
    text = PAGE.read_text()
    shown = re.findall(r"!\[[^\]]{20,}\]\(images/gallery/(\w+)\.png\)", text)
    assert shown == list(PICTURES)
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)
    for name in PICTURES:
        assert f"\n`{name}`: " in text


@pytest.mark.parametrize("name", ["darcy", "random_fields"])
def test_a_picture_is_drawn_as_it_is_shown(tmp_path: Path, name: str) -> None:
    with Image.open(make(name, tmp_path)) as drawn, Image.open(FOLDER / f"{name}.png") as shown:
        assert drawn.format == "PNG"
        assert drawn.size == shown.size
