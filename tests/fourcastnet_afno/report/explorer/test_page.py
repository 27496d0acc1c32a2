"""Scripts, styles and data of the explorer in a page."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path

from fourcastnet_afno.report.explorer.page import policy, scripts, style

ROOT = Path(__file__).parents[4]


def test_the_library_is_the_one_of_its_package() -> None:
    folder = files("fourcastnet_afno.report.explorer") / "uplot"
    record = json.loads((folder / "VERSION.json").read_text())
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in record["sha256"]
    }
    assert digests == record["sha256"]
    assert {each.name for each in folder.iterdir()} == {"VERSION.json", *digests}
    assert f"v{record['version']}" in (folder / "uPlot.iife.min.js").read_text()[:200]
    notice = (ROOT / "NOTICE").read_text()
    assert f"uPlot {record['version']}" in notice
    assert f"{record['license']} License" in notice


def test_a_page_has_the_library_with_its_license() -> None:
    library, *_ = scripts()
    assert library.startswith("/*\nuPlot\nThe MIT License (MIT)")
    assert "uplot" in style()
    assert not any("</script" in script for script in scripts())


def test_the_policy_allows_the_scripts_of_the_page_alone() -> None:
    # The digest of "alert('Hello, world.');" in the specification of the policy.
    digest = "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
    text = policy(["alert('Hello, world.');"])
    assert f"script-src 'sha256-{digest}';" in text
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text
