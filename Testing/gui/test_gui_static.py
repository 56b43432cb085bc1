"""Panels against their .ui files, without running either: what Slicer would only notice in a user's hands."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.parent.name for path in ROOT.glob("*/CMakeLists.txt")
                 if (path.parent / "Resources" / "UI" / f"{path.parent.name}.ui").is_file())
SIGNALS = {
    "QPushButton": {"clicked(bool)", "clicked()", "toggled(bool)", "pressed()", "released()"},
    "QComboBox": {"currentIndexChanged(int)"},
    "QCheckBox": {"toggled(bool)"},
    "ctkSliderWidget": {"valueChanged(double)"},
    "ctkPathLineEdit": {"currentPathChanged(QString)"},
    "qMRMLNodeComboBox": {"currentNodeChanged(vtkMRMLNode*)", "currentNodeChanged(bool)"},
    "qMRMLSegmentSelectorWidget": {"currentNodeChanged(vtkMRMLNode*)", "currentSegmentChanged(QString)"},
}
"""Signals of the real classes that the panels may name: read in Slicer's and CTK's headers."""
DYNAMIC = {"SlicerParameterName"}
NEEDS_SCENE = ("qMRML", "qSlicer")


def tree_of(name: str) -> ET.Element:
    return ET.parse(ROOT / name / "Resources" / "UI" / f"{name}.ui").getroot()


def widgets(name: str) -> dict[str, str]:
    return {widget.get("name", ""): widget.get("class", "") for widget in tree_of(name).iter("widget")}


def sources(name: str) -> list[tuple[Path, ast.Module]]:
    files = [ROOT / name / f"{name}.py", *sorted((ROOT / name / f"{name}Lib").glob("*.py"))]
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in files]


def is_ui(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "ui") or (isinstance(node, ast.Name) and node.id == "ui")


@pytest.mark.parametrize("name", MODULES)
def test_every_widget_that_the_code_names_is_in_the_ui(name: str) -> None:
    known = widgets(name)
    missing = [f"{path.name}:{node.lineno}: ui.{node.attr}" for path, tree in sources(name) for node in ast.walk(tree)
               if isinstance(node, ast.Attribute) and is_ui(node.value) and node.attr not in known]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", MODULES)
def test_every_signal_exists_in_its_class(name: str) -> None:
    known, wrong = widgets(name), []
    for path, tree in sources(name):
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect"
                    and isinstance(node.func.value, ast.Attribute) and is_ui(node.func.value.value)):
                continue
            kind = known[node.func.value.attr]
            text = ast.literal_eval(node.args[0])
            if text not in SIGNALS.get(kind, set()):
                wrong.append(f"{path.name}:{node.lineno}: {kind} has no signal {text}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", MODULES)
def test_parameter_names_of_the_ui_are_fields_of_the_parameter_node(name: str) -> None:
    bound = {prop.findtext("string") for widget in tree_of(name).iter("widget")
             for prop in widget.findall("property") if prop.get("name") == "SlicerParameterName"}
    wrapped = [cls for _, tree in sources(name) for cls in ast.walk(tree) if isinstance(cls, ast.ClassDef)
               and any("parameterNodeWrapper" in ast.dump(decorator) for decorator in cls.decorator_list)]
    fields = {node.target.id for cls in wrapped for node in cls.body
              if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert bound <= fields, f"not fields: {sorted(bound - fields)}"


@pytest.mark.parametrize("name", MODULES)
def test_dynamic_properties_are_the_one_that_slicer_reads(name: str) -> None:
    odd = [(widget.get("name"), prop.get("name")) for widget in tree_of(name).iter("widget")
           for prop in widget.findall("property")
           if prop.get("stdset") == "0" and prop.get("name") not in DYNAMIC]
    assert not odd, odd


@pytest.mark.parametrize("name", MODULES)
def test_every_mrml_widget_is_given_the_scene(name: str) -> None:
    root = tree_of(name)
    given = {entry.findtext("receiver") for entry in root.iter("connection")
             if (entry.findtext("signal"), entry.findtext("slot"))
             == ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")}
    need = {widget for widget, kind in widgets(name).items() if kind.startswith(NEEDS_SCENE) and widget != name}
    assert need == given, f"without a scene: {sorted(need - given)}; unknown: {sorted(given - need)}"


@pytest.mark.parametrize("name", MODULES)
def test_custom_widgets_are_declared_and_names_are_unique(name: str) -> None:
    root = tree_of(name)
    declared = {entry.findtext("class") for entry in root.iter("customwidget")}
    used = {kind for kind in widgets(name).values() if not kind.startswith("Q")}
    assert used <= declared, f"not declared: {sorted(used - declared)}"
    names = [widget.get("name") for widget in root.iter("widget")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", MODULES)
def test_panels_keep_to_what_pythonqt_has(name: str) -> None:
    """exec_ and PySide's own names don't exist there; sizeHint() is a property."""
    forbidden = re.compile(r"\bexec_\(|PySide|PyQt|\.sizeHint\(\)|\.isChecked\(\)|\.currentIndex\(\)|\.text\(\)")
    wrong = [f"{path.name}: {match.group(0)}" for path, _ in sources(name)
             for match in forbidden.finditer(path.read_text(encoding="utf-8"))]
    assert not wrong, wrong
