"""Rewrites the file lists of every module's CMakeLists.txt: Slicer installs only what is listed.

    python Testing/tools/list_cmake_files.py           # rewrite
    python Testing/tools/list_cmake_files.py --check   # print the lines to add or remove, exit 1 if there are any
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS, RESOURCES = "MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"
NOT_INSTALLED = {"CMakeLists.txt"}


def tree_files(root: Path = ROOT) -> list[Path]:
    """Every file of the tree that git tracks or would track; all files where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, check=True,
                                capture_output=True, text=True).stdout.splitlines()
        paths = [root / line for line in listed]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in root.rglob("*") if "__pycache__" not in path.parts and ".venv" not in path.parts]
    return sorted({path for path in paths if path.is_file()})


def module_folders(files: list[Path], root: Path = ROOT) -> list[Path]:
    """Folders whose CMakeLists.txt builds a scripted module."""
    return [path.parent for path in files if path.name == "CMakeLists.txt" and path.parent != root
            and "slicerMacroBuildScriptedModule" in path.read_text(encoding="utf-8")]


def wanted_lists(folder: Path, files: list[Path]) -> dict[str, list[str]]:
    """What a module's two lists should hold: its Python files, and everything else it ships."""
    inside = [path.relative_to(folder).as_posix() for path in files if folder in path.parents
              and path.name not in NOT_INSTALLED]
    return {SCRIPTS: [name for name in inside if name.endswith(".py")],
            RESOURCES: [name for name in inside if not name.endswith(".py")]}


def present_list(text: str, variable: str) -> list[str]:
    """The names that set(variable ...) holds now."""
    match = _block(text, variable)
    return [name.replace("${MODULE_NAME}", _module_name(text)) for name in match.group(1).split()]


def rewritten(text: str, lists: dict[str, list[str]]) -> str:
    """The CMakeLists text with both lists replaced."""
    for variable, names in lists.items():
        block = f"set({variable}\n" + "".join(f"  {name}\n" for name in names) + "  )"
        match = _block(text, variable)
        text = text[:match.start()] + block + text[match.end():]
    return text


def differences(folder: Path, files: list[Path]) -> list[str]:
    """One line for every name that is missing or too much."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    out = []
    for variable, names in wanted_lists(folder, files).items():
        present = present_list(text, variable)
        out += [f"{folder.name}/CMakeLists.txt, {variable}: add      {name}" for name in names if name not in present]
        out += [f"{folder.name}/CMakeLists.txt, {variable}: remove   {name}" for name in present if name not in names]
        if sorted(set(present)) != sorted(present):
            out.append(f"{folder.name}/CMakeLists.txt, {variable}: a name stands there twice")
    return out


def _block(text: str, variable: str) -> re.Match:
    match = re.search(rf"set\({variable}\b([^)]*)\)", text)
    if match is None:
        raise ValueError(f"no set({variable} ...) in this CMakeLists.txt")
    return match


def _module_name(text: str) -> str:
    match = re.search(r"set\(MODULE_NAME\s+(\w+)\)", text)
    return match.group(1) if match else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is wrong")
    check = parser.parse_args().check
    files = tree_files()
    wrong = [line for folder in module_folders(files) for line in differences(folder, files)]
    print("\n".join(wrong) or "every file is listed")
    if check or not wrong:
        return 1 if wrong else 0
    for folder in module_folders(files):
        path = folder / "CMakeLists.txt"
        text = rewritten(path.read_text(encoding="utf-8"), wanted_lists(folder, files))
        path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
