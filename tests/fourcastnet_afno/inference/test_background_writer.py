"""The thread that writes."""

import pytest

from fourcastnet_afno.inference.background_writer import BackgroundWriter


def test_the_writer_keeps_the_order_and_its_errors() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(20):
            writer.submit(lambda n=number: done.append(n))
    assert done == list(range(20))

    def failing() -> None:
        raise OSError("no")

    def write_all() -> None:
        with BackgroundWriter() as writer:
            writer.submit(failing)
            for number in range(100):
                writer.submit(lambda n=number: done.append(n))

    with pytest.raises(OSError, match="no"):
        write_all()
    assert done == list(range(20))


def test_an_error_beside_the_writer_drops_what_waits() -> None:
    with pytest.raises(KeyboardInterrupt), BackgroundWriter():
        raise KeyboardInterrupt
