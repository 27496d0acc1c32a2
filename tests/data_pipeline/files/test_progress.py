"""Progress bars pass items on, show counts and notes, and end with the block."""

import pytest

from data_pipeline.files.progress import progress, track


@pytest.mark.parametrize("items", [[1, 2, 3], iter([1, 2, 3]), []])
def test_items_pass_unchanged(items: list[int]) -> None:
    expected = [1, 2, 3] if items != [] else []
    assert list(track(items, "Counting")) == expected


def test_counts_and_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading", 5) as advance:
        advance(2, note="first.nc")
        advance(note="second.nc")
    shown = capsys.readouterr().out
    assert "Reading" in shown
    assert "3/5" in shown
    assert "second.nc" in shown


def test_an_error_in_the_block_is_raised() -> None:
    with pytest.raises(RuntimeError, match="broken"), progress("Reading", None):
        raise RuntimeError("broken")
