"""Reports and figures of this package, of this version and of earlier ones, are recognized."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from data_pipeline.files.outputs import check_outputs
from fourcastnet_afno.report.outputs import report_outputs, runs_output
from fourcastnet_afno.report.plots import plot_run_losses, render
from tests.builders.errors import rejects

OLD = "<!doctype html><title>run: forecasts against truth</title>"


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_figures_say_who_wrote_them(tmp_path: Path, form: str) -> None:
    figure, folder = Figure(figsize=(1, 1)), tmp_path / "figures"
    folder.mkdir()
    path = folder / f"loss.{form}"
    path.write_bytes(render(figure, form))
    (folder / "of_the_user.png").write_text("not named like a figure of the report")
    check_outputs(report_outputs(tmp_path / "report.html"), {})
    figure.savefig(path)  # by another program
    with rejects("output-exists", str(path)):
        check_outputs(report_outputs(tmp_path / "report.html"), {})
    (tmp_path / "report.html").write_text(OLD)  # figures of earlier versions say nothing
    check_outputs(report_outputs(tmp_path / "report.html"), {})
    path.write_bytes(b"by hand")
    with rejects("output-exists", str(path)):
        check_outputs(report_outputs(tmp_path / "report.html"), {})


def test_another_page_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("<title>truth</title>")
    with rejects("output-exists", str(path)):
        check_outputs(report_outputs(path), {})


def test_a_file_in_place_of_the_folder_of_figures_is_named_before(tmp_path: Path) -> None:
    (tmp_path / "figures").touch()
    with rejects("not-a-folder", str(tmp_path / "figures")):
        check_outputs(report_outputs(tmp_path / "report.html"), {})


def test_the_figure_of_runs_is_recognized_by_its_maker_or_its_size(tmp_path: Path) -> None:
    path = tmp_path / "runs.png"
    figure = plot_run_losses({"a": [(1, 1.0)]})
    for write in (lambda: path.write_bytes(render(figure)), lambda: figure.savefig(path, dpi=100)):
        write()
        check_outputs([runs_output(path)], {})
    Image.new("RGB", (800, 450)).save(path)
    with rejects("output-exists", str(path)):
        check_outputs([runs_output(path)], {})
