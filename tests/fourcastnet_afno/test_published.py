"""Checkpoints behind URLs: web servers, a hub and a memory file system, with their local copies."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
import torch

from data_pipeline.files.cache import cache_folder
from data_pipeline.sources.retry import RetryPolicy
from fourcastnet_afno.forecaster.checkpoint import (
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
)
from fourcastnet_afno.interop.publish import save_pretrained
from fourcastnet_afno.published import content_of, local_checkpoint
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster
from tests.builders.servers import Site, hub_like, serving

pytest.importorskip("aiohttp")
IMPATIENT = RetryPolicy(attempts=2, delay=0.0)
fetch = partial(local_checkpoint, check=read_checkpoint, policy=IMPATIENT)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a published folder."""
    folder = tmp_path_factory.mktemp("published")
    save_checkpoint(folder / "best.safetensors", make_forecaster(), {}, {})
    save_pretrained(folder / "best.safetensors", folder / "model")
    return {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


@pytest.fixture
def site(published: dict[str, bytes]) -> Iterator[Site]:
    with serving(Site({f"model/{name}": text for name, text in published.items()})) as site:
        yield site


def copies() -> list[Path]:
    return list(cache_folder("checkpoints").rglob("*.safetensors"))


def test_a_forecaster_is_loaded_from_a_hub(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site()) as hub:
        hub_like(hub, "ORG/NAME", published)
        hub_like(hub, "ORG/NAME", published, "v1")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        expected = make_forecaster().state_dict()
        for location in ("hf://ORG/NAME", "hf://ORG/NAME@v1"):
            found = load_forecaster(location).state_dict()
            assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert "ORG/NAME/resolve/v1/model.safetensors" in hub.paths


def test_addresses_are_those_of_the_hubs_own_client(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("huggingface_hub", reason="needs the extra interop")
    with serving(Site()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub_like(hub, "ORG/NAME", published, "v1")
        fetch("hf://ORG/NAME@v1")
        for name in ("config.json", "model.safetensors"):
            url = client.hf_hub_url("ORG/NAME", name, revision="v1", endpoint=hub.url)
            assert url.removeprefix(f"{hub.url}/") in hub.paths


def test_the_token_goes_to_the_hub_and_not_where_it_redirects(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site()) as hub, serving(Site()) as store:
        hub_like(hub, "ORG/NAME", published)
        path = "ORG/NAME/resolve/main/model.safetensors"
        store.files["blob"] = hub.files.pop(path)
        hub.redirects[path] = f"{store.url}/blob"
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
        fetch("hf://ORG/NAME")
        assert {sent for _, sent in hub.asked} == {"Bearer hf_0123456789"}
        assert {sent for _, sent in store.asked} == {""}


def test_a_copy_is_read_once_while_it_stays_what_is_published(
    site: Site, published: dict[str, bytes]
) -> None:
    for location in (f"{site.url}/model", f"{site.url}/model/model.safetensors"):
        first = fetch(location)
        assert first.read_bytes() == published["model.safetensors"]
        site.asked.clear()
        assert fetch(location) == first
        bodies = [path for path in site.paths if path.endswith(".safetensors")]
        assert len(bodies) <= (1 if location.endswith("s") else 0)  # its version alone


def test_a_file_can_have_a_signature(site: Site, published: dict[str, bytes]) -> None:
    found = fetch(f"{site.url}/model/model.safetensors?signature=0123456789abcdef")
    assert found.read_bytes() == published["model.safetensors"]
    with rejects("missing-file", f"{site.url}/none.safetensors") as error:
        fetch(f"{site.url}/none.safetensors?token=0123456789abcdef")
    assert "0123456789abcdef" not in str(error.value)


def test_a_new_version_replaces_the_copy(site: Site, tmp_path: Path) -> None:
    copy = fetch(f"{site.url}/model")
    before = copy.read_bytes()
    other = make_forecaster()
    torch.nn.init.ones_(next(other.parameters()))
    save_checkpoint(tmp_path / "other.safetensors", other, {}, {})
    save_pretrained(tmp_path / "other.safetensors", tmp_path / "model")
    site.files |= {f"model/{p.name}": p.read_bytes() for p in (tmp_path / "model").iterdir()}
    assert fetch(f"{site.url}/model").read_bytes() not in (before, b"")
    assert len(copies()) == 1


def test_without_a_network_the_copy_is_used(
    published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site({f"model/{name}": text for name, text in published.items()})) as site:
        copy = fetch(f"{site.url}/model")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        site.asked.clear()
        assert fetch(f"{site.url}/model") == copy
        assert site.asked == []
        monkeypatch.delenv("HF_HUB_OFFLINE")
    assert fetch(f"{site.url}/model") == copy
    with rejects("transfer-failed", site.url):
        fetch(f"{site.url}/another")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with rejects("transfer-failed", "HF_HUB_OFFLINE"):
        fetch("hf://ORG/NAME")


def test_a_corrupted_download_is_never_used(site: Site, published: dict[str, bytes]) -> None:
    whole = published["model.safetensors"]
    flipped = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]
    digest = content_of_bytes(whole)
    for content, cut in ((flipped, 0), (whole[:-9], 0), (whole, 9), (b"<html>", 0)):
        site.files["model/model.safetensors"], site.cut = content, cut
        if not cut:
            with rejects("transfer-failed", "published", f"{len(content)} bytes"):
                fetch(f"{site.url}/model")
            with rejects("transfer-failed", digest):
                fetch(f"{site.url}/model/model.safetensors#sha256={digest}")
        with pytest.raises(ValueError, match=r"model.safetensors|model/config.json"):
            fetch(f"{site.url}/model/model.safetensors")
    assert copies() == []
    site.files["model/model.safetensors"], site.cut = whole, 0
    assert fetch(f"{site.url}/model#sha256={digest}").read_bytes() == whole


def content_of_bytes(content: bytes) -> str:
    path = cache_folder("checkpoints") / "content"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = content_of(path).sha256
    path.unlink()
    return digest


def test_a_copy_that_was_damaged_is_read_again(site: Site, published: dict[str, bytes]) -> None:
    copy = fetch(f"{site.url}/model")
    copy.write_bytes(copy.read_bytes()[:-1])
    assert fetch(f"{site.url}/model").read_bytes() == published["model.safetensors"]


def test_what_is_not_there_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with rejects("missing-file", f"{site.url}/none/config.json"):
        fetch(f"{site.url}/none")
    with rejects("bad-setting", "hf://ORG"):
        fetch("hf://ORG")
    site.files["model/config.json"] = json.dumps({"library_name": "another"}).encode()
    with rejects("bad-record", "model/config.json", "checkpoint"):
        fetch(f"{site.url}/model")


def test_folders_and_other_file_systems_are_locations(
    published: dict[str, bytes], tmp_path: Path
) -> None:
    files = fsspec.filesystem("memory")
    for name, content in published.items():
        (tmp_path / name).write_bytes(content)
        files.pipe_file(f"/published/{name}", content)
    assert fetch(tmp_path) == tmp_path / "model.safetensors"
    assert fetch("memory://published").read_bytes() == published["model.safetensors"]
    assert load_forecaster(tmp_path).spec == load_forecaster("memory://published").spec


def test_a_name_leads_to_the_checkpoint_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, bytes]
) -> None:
    """Unless a folder of the user has this name."""
    monkeypatch.chdir(tmp_path)
    assert load_forecaster("quickstart").spec.grid.shape == (32, 64)
    Path("quickstart").mkdir()
    for name, content in published.items():
        Path("quickstart", name).write_bytes(content)
    assert load_forecaster("quickstart").spec.grid.shape == make_forecaster().spec.grid.shape
