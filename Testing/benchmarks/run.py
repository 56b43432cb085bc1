"""`make benchmark`: every benchmark in one run, written to Docs/benchmarks.md with the machine named."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / "Docs" / "benchmarks.md"
SECTIONS = {"margin": "Margin", "registration": "Registration", "margin_cases": "Whole job on simulated cases",
            "segmentation": "Segmentation", "link": "OpenIGTLink", "needle_ultrasound": "Needle in ultrasound",
            "needle_live": "Needle, from socket to node", "needle_ct": "Needle in CT, catheter in X-ray",
            "needle_mr": "Needle in MR", "reconstruction": "Tracked ultrasound: volumes, slices, breathing",
            "multimodal": "CT, MR and PET onto each other", "slices": "Ultrasound slices into a CT",
            "fusion_live": "FusionNav, from socket to live slice", "xray": "CT under the C-arm (2D/3D)",
            "dsa": "DSA", "vessels": "Vessels in angiograms", "wire": "Catheter and guide-wire in fluoroscopy",
            "plan": "Planning", "radiomics": "Radiomics", "outcome": "Outcome models", "cohort": "Cohorts on Dask",
            "federated": "Federated outcome models"}
PACKAGES = ("numpy", "scipy", "SimpleITK", "torch", "vtk", "slicer-core", "surface-distance", "picsl-greedy",
            "convexAdam", "itk-elastix", "onnxruntime", "fastcrc", "pyigtl", "pymust", "nanodrr",
            "opencv-python-headless", "small-gicp", "scikit-learn", "lifelines", "mirp", "flash-radiomics", "dask",
            "flwr")
INTRODUCTION = """# Benchmarks

Written by `make benchmark`, on the machine named here; peers are measured in the same run as the section they stand
in, and sections may come from different runs. Accuracy is
measured against analytic truth, published landmarks, expert masks or simulated cases with known motion: each table
says which. Nothing here is a clinical validation."""


def machine() -> list[str]:
    """The machine and the versions, as a list."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        names = [line.split(":", 1)[1].strip() for line in lines]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [f"- {date.today().isoformat()}, {model}, {os.cpu_count()} cores, {memory:.0f} GiB, no GPU used, "
             f"{platform.system()}, Python {platform.python_version()}"]
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return [*lines, "- " + ", ".join(found)]


def data_folder() -> Path:
    return Path(os.environ.get("IRAI_TEST_DATA") or ROOT.parent / "shared" / "data")


def main(names: list[str]) -> int:
    """Run the sections named (default: all). A section that was not run keeps its text of the last run."""
    sys.path.insert(0, str(HERE))
    for name in names or SECTIONS:
        began = time.monotonic()
        print(f"{name} ...", flush=True)
        body = [line for line in importlib.import_module(name).run(data_folder()) if not line.startswith("## ")]
        old = _sections(TARGET.read_text(encoding="utf-8")) if TARGET.is_file() else {}
        old[SECTIONS[name]] = "\n".join([*body, "", f"({time.monotonic() - began:.0f} s for this section.)"])
        _write(old)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


def _sections(text: str) -> dict[str, str]:
    parts = text.split("\n## ")[1:]
    return {part.split("\n", 1)[0].strip(): part.split("\n", 1)[1].strip() for part in parts}


def _write(sections: dict[str, str]) -> None:
    parts = [INTRODUCTION, "", *machine(), ""]
    for title in SECTIONS.values():
        if title in sections:
            parts += [f"## {title}", "", sections[title], ""]
    TARGET.parent.mkdir(exist_ok=True)
    temporary = TARGET.with_suffix(".writing")
    temporary.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
    os.replace(temporary, TARGET)


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in SECTIONS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; choose from {', '.join(SECTIONS)}")
    sys.exit(main(sys.argv[1:]))
