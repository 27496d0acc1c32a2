"""Pictures that need no drawing."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fourcastnet_afno.report import maps, plots
from fourcastnet_afno.report.outputs import MAKER

_draw = plots.render


@pytest.fixture(scope="module", autouse=True)
def blank_pictures() -> Iterator[None]:
    """Figures are composed but not drawn, which takes seconds: tests of the report draw them."""
    with pytest.MonkeyPatch.context() as patch:
        leave_pictures_blank(patch)
        yield


@contextmanager
def drawn_pictures() -> Iterator[None]:
    """Draw figures also where pictures are blank, for files that tests of the report share."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, maps):
            patch.setattr(module, "render", _draw)
        yield


def leave_pictures_blank(patch: pytest.MonkeyPatch) -> None:
    """Replace the drawing of figures until the patch is undone."""
    buffer = BytesIO()
    maker = PngInfo()
    maker.add_text("Software", MAKER)
    Image.new("RGB", (16, 16)).save(buffer, "PNG", pnginfo=maker)
    for module in (plots, maps):
        patch.setattr(module, "render", lambda *_: buffer.getvalue())
