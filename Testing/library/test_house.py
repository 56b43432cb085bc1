"""The rules of the house that a machine can hold: floors, lists, sizes, what may be imported where."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "IRAIExtension" / "IRAILib"
sys.path.insert(0, str(ROOT / "Testing" / "tools"))

import list_cmake_files as cmake  # noqa: E402

FLOOR = {"geometry": 0, "images": 1, "jobs": 1, "weights": 1, "registration": 2, "segmentation": 2, "link": 2,
         "ablation": 3, "needle": 3, "fluoroscopy": 3, "navigation": 3, "biopsy": 3, "report": 4, "headless": 4,
         "cohort": 4,
         "scene": 5, "cli": 6}
MAX_LINES, MAX_FUNCTION_LINES, MAX_WIDTH = 400, 60, 120
MAY_IMPORT_SLICER = {"scene", "headless", "cli"}
SLICER_NAMES = {"slicer", "qt", "ctk"}
IN_FUNCTIONS_ONLY = {"torch", "monai", "highdicom", "edt", "itk", "picsl_greedy", "trame_slicer", "PIL", "matplotlib",
                     "skimage", "numba", "pandas", "sklearn", "lifelines", "pywt", "yaml", "pyarrow", "dask",
                     "distributed", "sksurv", "imblearn", "cryptography"}
SLICER_CARRIES = {"numpy", "scipy", "vtk", "SimpleITK", "pydicom", "slicer", "qt", "ctk"}
TEXT_SUFFIXES = {".py", ".md", ".txt", ".ui", ".json", ".toml", ".cff", ".yaml", ".yml"}

FILES = cmake.tree_files()
PYTHON = [path for path in FILES if path.suffix == ".py"]
LIBRARY_FILES = [path for path in PYTHON if LIBRARY in path.parents]


def room_of(path: Path) -> str | None:
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else None


def modules_imported(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(absolute name, line, at file scope) of every import, relative ones resolved inside the library."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and LIBRARY in path.parents:
                package = ("IRAILib", *path.relative_to(LIBRARY).parts[:-1])
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            elif node.level:
                continue
            yield base, node.lineno, id(node) in top
            if base == "IRAILib":
                for alias in node.names:
                    yield f"IRAILib.{alias.name}", node.lineno, id(node) in top


def said(lines: list[str]) -> None:
    assert not lines, "\n" + "\n".join(lines)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_rooms_import_from_lower_floors_only() -> None:
    wrong = []
    for path in LIBRARY_FILES:
        room = room_of(path)
        if room is None:
            continue
        assert room in FLOOR, f"{path.relative_to(ROOT)}: the room '{room}' has no floor; see DESIGN and this test"
        for name, line, _ in modules_imported(path):
            parts = name.split(".")
            other = parts[1] if parts[0] == "IRAILib" and len(parts) > 1 else None
            if other in FLOOR and other != room and FLOOR[other] >= FLOOR[room]:
                wrong.append(f"{where(path, line)}: {room} imports {other}, which lies beside or above it")
    said(wrong)


def test_slicer_is_imported_from_scene_upwards_only() -> None:
    said([f"{where(path, line)}: {room_of(path)} imports {name}"
          for path in LIBRARY_FILES if room_of(path) not in MAY_IMPORT_SLICER
          for name, line, _ in modules_imported(path) if name.split(".")[0] in SLICER_NAMES])


def test_heavy_and_optional_packages_are_imported_inside_functions() -> None:
    said([f"{where(path, line)}: {name} at file scope" for path in LIBRARY_FILES
          for name, line, top in modules_imported(path) if top and name.split(".")[0] in IN_FUNCTIONS_ONLY])


def test_module_files_import_nothing_at_file_scope_that_slicer_lacks() -> None:
    standard = set(sys.stdlib_module_names)
    wrong = []
    for folder in cmake.module_folders(FILES):
        own = {path.stem for path in folder.iterdir()} | {"IRAILib", "IRAIExtensionLib", "SampleData"}
        for path in PYTHON:
            if folder not in path.parents or LIBRARY in path.parents:
                continue
            wrong += [f"{where(path, line)}: {name} at file scope" for name, line, top in modules_imported(path)
                      if top and name.split(".")[0] not in standard | SLICER_CARRIES | own]
    said(wrong)


def test_every_file_is_listed_for_installation() -> None:
    wrong = [line for folder in cmake.module_folders(FILES) for line in cmake.differences(folder, FILES)]
    assert not wrong, ("\n" + "\n".join(wrong)
                       + "\nrun: python Testing/tools/list_cmake_files.py   (it rewrites the lists)")


def test_lists_are_read_and_rewritten() -> None:
    text = "set(MODULE_NAME M)\nset(MODULE_PYTHON_SCRIPTS\n  ${MODULE_NAME}.py\n  )\nset(MODULE_PYTHON_RESOURCES\n  )\n"
    assert cmake.present_list(text, cmake.SCRIPTS) == ["M.py"]
    again = cmake.rewritten(text, {cmake.SCRIPTS: ["a.py", "b/c.py"], cmake.RESOURCES: ["x.ui"]})
    assert cmake.present_list(again, cmake.SCRIPTS) == ["a.py", "b/c.py"]
    assert cmake.present_list(again, cmake.RESOURCES) == ["x.ui"]


def test_files_and_functions_are_of_a_size_to_read() -> None:
    wrong = []
    for path in PYTHON:
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {len(lines)} lines, at most {MAX_LINES}")
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > MAX_FUNCTION_LINES:
                    wrong.append(f"{where(path, node.lineno)} {node.name}: {size} lines, at most {MAX_FUNCTION_LINES}")
    said(wrong)


def test_no_exception_is_swallowed_in_silence() -> None:
    said([f"{where(path, node.lineno)}: an exception is swallowed" for path in PYTHON
          for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
          if isinstance(node, ast.ExceptHandler) and all(isinstance(inner, ast.Pass) for inner in node.body)])


def test_nothing_prints_from_the_library() -> None:
    said([f"{where(path, node.lineno)}: print()" for path in LIBRARY_FILES if room_of(path) != "cli"
          for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
          if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"])


def test_lines_end_in_lf() -> None:
    said([f"{path.relative_to(ROOT)}: CRLF" for path in FILES if path.suffix in TEXT_SUFFIXES
          and b"\r\n" in path.read_bytes()])


def test_each_module_shows_its_tests_and_resources_to_slicer() -> None:
    for folder in cmake.module_folders(FILES):
        name = folder.name
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        classes = {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
        assert {name, f"{name}Widget", f"{name}Logic", f"{name}Test"} <= classes
        assert (folder / "Resources" / "Icons" / f"{name}.png").is_file()
        assert (folder / "Resources" / "UI" / f"{name}.ui").is_file()
        listing = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
        assert f"set(MODULE_NAME {name})" in listing
        assert "slicer_add_python_unittest" in listing


def test_extension_index_entry_agrees_with_the_build() -> None:
    top, entry = ROOT / "CMakeLists.txt", ROOT / "IRAI.json"
    if not (top.is_file() and entry.is_file()):
        pytest.skip("the extension's own CMakeLists.txt and IRAI.json are not here yet")
    text = top.read_text(encoding="utf-8")
    assert re.search(r"project\(\s*IRAI\b", text)
    assert json.loads(entry.read_text(encoding="utf-8"))["scm_url"].startswith("https://")
    for folder in cmake.module_folders(FILES):
        assert f"add_subdirectory({folder.name})" in text, f"CMakeLists.txt: add_subdirectory({folder.name})"
    for field in re.findall(r"set\((EXTENSION_\w+)\s+(.*?)\)\s*$", text, re.MULTILINE):
        assert field[1].startswith('"'), f"{field[0]} must be quoted"


def test_texts_of_the_panels_can_be_translated() -> None:
    """Words that a widget shows go through _(): a bare literal in setText and its kin is a slip."""
    shown = {"setText", "setToolTip", "addItem", "errorDisplay", "infoDisplay", "setWindowTitle"}
    wrong = []
    for folder in cmake.module_folders(FILES):
        for path in PYTHON:
            if folder not in path.parents or LIBRARY in path.parents:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in shown
                        and node.args and isinstance(node.args[0], ast.Constant)
                        and isinstance(node.args[0].value, str) and re.search("[A-Za-z]{2}", node.args[0].value)):
                    wrong.append(f"{where(path, node.lineno)}: {node.args[0].value!r} is not wrapped in _()")
    said(wrong)
