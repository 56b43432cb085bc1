"""The home module's panel: versions, modules that are there and those that aren't, sample case."""

from __future__ import annotations

import types

import pytest


@pytest.fixture
def home(host, monkeypatch):
    import slicer

    monkeypatch.setattr(slicer.modules, "ablationmargin", types.SimpleNamespace(), raising=False)
    return host("IRAIExtension")


def rows(table) -> dict[str, str]:
    return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}


def test_versions_are_those_of_the_environment(home) -> None:
    import importlib.metadata

    shown = rows(home.ui.packagesTable)
    assert shown["scikit-image"] == importlib.metadata.version("scikit-image")
    assert shown["Slicer"]


def test_what_is_not_installed_is_said(home, monkeypatch) -> None:
    import importlib.metadata

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    home.widget.refresh()
    assert rows(home.ui.packagesTable)["MONAI"] == "not installed"


def test_only_modules_that_are_there_have_a_button(home) -> None:
    assert not home.ui.ablationMarginButton.isHidden()
    assert home.ui.needleTrackingButton.isHidden()
    assert "not in this version" in home.ui.needleTrackingText.text


def test_a_button_opens_its_module(home, monkeypatch) -> None:
    import slicer

    opened = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    home.ui.ablationMarginButton.click()
    assert opened == ["AblationMargin"]


def test_torch_needs_its_extension(home) -> None:
    assert not home.ui.torchButton.enabled
    assert "PyTorch extension" in home.ui.installLabel.text


def test_install_asks_slicer_for_the_listed_packages_only(home, monkeypatch) -> None:
    import slicer

    asked = []
    monkeypatch.setattr(slicer.util, "pip_install", asked.extend, raising=False)
    home.ui.installButton.click()
    assert asked
    names = {line.split(">")[0].strip() for line in asked}
    assert not names & {"numpy", "vtk", "SimpleITK", "scipy", "torch"}


def test_sample_case_is_loaded_and_the_module_opened(home, monkeypatch) -> None:
    import slicer

    opened = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    home.ui.sampleButton.click()
    assert opened == ["AblationMargin"]
    assert slicer.util.getNode("Phantom before") is not None
