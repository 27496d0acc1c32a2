import pickle

import pytest

from data_pipeline.errors import InputError, TransferError, naming_option


@pytest.mark.parametrize("kind", [InputError, TransferError])
def test_message_and_code_travel_between_processes(
    kind: type[InputError],
) -> None:
    error = pickle.loads(pickle.dumps(kind("latitude of a.nc", code="grid-mismatch")))
    assert type(error) is kind
    assert (str(error), error.code) == ("latitude of a.nc", "grid-mismatch")


def test_codes_by_default() -> None:
    assert InputError("a").code == "bad-input"
    assert TransferError("a").code == "transfer-failed"


def test_errors_of_a_source_name_the_option_that_gives_it() -> None:
    with pytest.raises(TransferError) as found, naming_option("--source"):
        raise TransferError("set data.source.convert=true or correct data.source.path")
    assert str(found.value) == "set --source.convert=true or correct --source"
