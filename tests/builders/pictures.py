"""Pictures that need no drawing."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from fourcastnet_afno.report import maps, plots


@pytest.fixture(scope="module")
def blank_pictures() -> Iterator[None]:
    """Figures are composed but not drawn, which takes seconds: tests of the report draw them."""
    buffer = BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, maps):
            patch.setattr(module, "render", lambda *_: buffer.getvalue())
        yield
