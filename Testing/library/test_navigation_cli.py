"""`irai fusion calibrate`: files in, JSON out, and one line with the right exit status for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from IRAILib.cli.main import main
from IRAILib.geometry import InputError
from IRAILib.images.markups import read_named_points
from IRAILib.images.poses import read_poses
from IRAILib.images.sequences import TrackedSequence, write_sequence
from navigation_cases import PIVOT_MM, TIP_MM, WIRES, make_phantom, pivoting, random_rigid, sweep, write_config
from scipy.spatial.transform import Rotation

POINTS = np.array([[10.0, 0, 0], [0, 60, 5], [-30, 20, 70], [40, -50, 20], [5, 5, 90]])


def run(*arguments) -> int:
    return main(["fusion", "calibrate", *(str(a) for a in arguments)])


def recording(path: Path, transforms: dict[str, np.ndarray], *, missing=(), frames=None) -> Path:
    count = len(next(iter(transforms.values())))
    status = {name: ["MISSING" if n in missing else "OK" for n in range(count)] for name in transforms}
    write_sequence(path, TrackedSequence(frames, np.arange(count) * 0.1, transforms, status,
                                         "MFA" if frames is not None else "XX"))
    return path


def test_pivot_from_a_recording_whose_reference_moves(tmp_path, capsys) -> None:
    random = np.random.default_rng(1)
    in_reference = pivoting(random, 60)
    reference = np.array([random_rigid(random) for _ in range(60)])
    source = recording(tmp_path / "stylus.igs.mha", {"StylusToTracker": reference @ in_reference,
                                                     "ReferenceToTracker": reference}, missing=(3, 17))
    assert run("pivot", source, "--json", tmp_path / "tip.json") == 0
    values = json.loads((tmp_path / "tip.json").read_text())
    assert np.allclose(values["tip_mm"], TIP_MM, atol=1e-6)
    assert np.allclose(values["pivot_mm"], PIVOT_MM, atol=1e-6)
    assert (values["frame"], values["pivot_frame"], values["units"], values["poses_used"]) == ("Stylus", "Reference",
                                                                                            "mm", 58)
    assert "tip at 12.00, -7.00, -183.00 mm in Stylus" in capsys.readouterr().out
    assert run("pivot", source, "--frames", "0:8", "--json", tmp_path / "x.json") == 3
    assert not (tmp_path / "x.json").exists()
    assert "at least 10" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["matrix.csv", "quaternion.csv", "list.json"])
def test_pivot_from_tables_of_poses(tmp_path, form: str) -> None:
    poses = pivoting(np.random.default_rng(2), 40)
    path = tmp_path / form
    if form == "matrix.csv":
        lines = [",".join(f"m{r}{c}" for r in range(3) for c in range(4)) + ",status"]
        lines += [",".join(repr(float(v)) for v in pose[:3].ravel()) + ",OK" for pose in poses]
        path.write_text("\n".join([*lines, ",".join(["0"] * 12) + ",MISSING"]))
    elif form == "quaternion.csv":
        turns = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
        path.write_text("\n".join(["# of a test", "time_s,x,y,z,qw,qx,qy,qz", *(
            ",".join(repr(float(v)) for v in (n, *p[:3, 3], q[3], *q[:3])) for n, (p, q) in
            enumerate(zip(poses, turns, strict=True)))]))
    else:
        path.write_text(json.dumps({"poses": [pose.ravel().tolist() for pose in poses]}))
    table = read_poses(path)
    assert np.allclose(table.poses[table.valid], poses)
    assert run("pivot", path, "--json", tmp_path / "tip.json") == 0
    assert np.allclose(json.loads((tmp_path / "tip.json").read_text())["tip_mm"], TIP_MM, atol=1e-6)


def test_spin_takes_the_tip_of_a_pivot(tmp_path) -> None:
    poses = np.tile(np.eye(4), (60, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.radians(np.linspace(0, 200, 60))[:, None] * [[0, 0, 1.0]]).as_matrix()
    source = recording(tmp_path / "roll.igs.mha", {"NeedleToTracker": poses})
    (tmp_path / "tip.json").write_text(json.dumps({"tip_mm": [1.0, 2.0, -150.0]}))
    assert run("spin", source, "--transform", "NeedleToTracker", "--tip", tmp_path / "tip.json", "--json",
               tmp_path / "axis.json") == 0
    values = json.loads((tmp_path / "axis.json").read_text())
    assert np.allclose(values["axis"], [0, 0, -1])
    assert values["signed"] is True


def write_markups(path: Path, points: np.ndarray, names, system: str) -> Path:
    sign = np.array([-1, -1, 1]) if system == "LPS" else np.ones(3)
    if path.suffix == ".json":
        path.write_text(json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": [
            {"label": name, "position": (p * sign).tolist()} for name, p in zip(names, points, strict=True)]}]}))
    else:
        rows = [f"f{n},{x},{y},{z},0,0,0,1,1,1,0,{names[n]},," for n, (x, y, z) in enumerate(points * sign)]
        path.write_text("\n".join(["# Markups fiducial file version = 4.11", f"# CoordinateSystem = {system}",
                                   "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID", *rows]))
    return path


def test_landmarks_of_slicer_in_either_coordinate_system_are_paired_by_name(tmp_path) -> None:
    truth = random_rigid(np.random.default_rng(5))
    names = ["a", "b", "c", "d", "e"]
    fixed = POINTS @ truth[:3, :3].T + truth[:3, 3]
    moving_file = write_markups(tmp_path / "m.mrk.json", POINTS, names, "LPS")
    order = [3, 1, 4, 0, 2]
    fixed_file = write_markups(tmp_path / "f.fcsv", fixed[order], [names[n] for n in order], "RAS")
    assert np.allclose(read_named_points(moving_file).points_mm, POINTS)
    assert run("landmarks", moving_file, "--fixed", fixed_file, "--moving-frame", "Reference", "--fixed-frame", "RAS",
               "--exclude", "c", "--targets", moving_file, "--json", tmp_path / "out.json") == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert np.allclose(values["ReferenceToRAS"], truth, atol=1e-6)
    assert values["excluded"] == ["c"]
    assert len(values["uncertainty"]["targets"]) == 5


def test_landmarks_from_one_table(tmp_path, capsys) -> None:
    rows = ["name,moving_x,moving_y,moving_z,fixed_x,fixed_y,fixed_z"]
    rows += [f"p{n},{x},{y},{z},{x + 1},{y + 2},{z + 3}" for n, (x, y, z) in enumerate(POINTS)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    assert run("landmarks", tmp_path / "pairs.csv", "--json", tmp_path / "out.json") == 0
    assert np.allclose(np.array(json.loads((tmp_path / "out.json").read_text())["MovingToFixed"])[:3, 3], [1, 2, 3])
    (tmp_path / "line.json").write_text(json.dumps({"moving": [[0, 0, n * 10] for n in range(4)],
                                                    "fixed": [[0, 0, n * 10] for n in range(4)]}))
    assert run("landmarks", tmp_path / "line.json", "--json", tmp_path / "x.json") == 3
    assert "one line" in capsys.readouterr().err


def test_nwire_and_pointer_from_a_recording_with_points(tmp_path) -> None:
    phantom, random = make_phantom(), np.random.default_rng(4)
    dots, probe_from_phantom = sweep(phantom, random, 30)
    write_config(tmp_path / "phantom.xml", phantom)
    source = recording(tmp_path / "sweep.igs.mha", {"ProbeToReference": np.linalg.inv(probe_from_phantom)},
                       frames=np.zeros((30, 70, 60), np.uint8))
    rows = [f"{n},{WIRES[w // 3][w % 3]},{dots[n, w, 0]!r},{dots[n, w, 1]!r}" for n in range(30) for w in range(9)]
    (tmp_path / "dots.csv").write_text("\n".join(["frame,wire,x,y", *rows]).replace("np.float64(", "").replace(")", ""))
    assert run("nwire", source, "--points", tmp_path / "dots.csv", "--config", tmp_path / "phantom.xml", "--depth-mm",
               "63", "--preset", "Spine", "--json", tmp_path / "out.json") == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert np.allclose(values["ImageToProbe"], phantom.image_to_probe, atol=1e-5)
    assert (values["depth_mm"], values["preset"], values["size_px"]) == (63.0, "Spine", [60, 70])
    pixels = random.uniform(5, 55, (20, 2))
    tips = pixels @ phantom.image_to_probe[:3, :2].T + phantom.image_to_probe[:3, 3]
    tools = np.array([random_rigid(random) for _ in range(20)])
    tools[:, :3, 3] = tips - tools[:, :3, :3] @ TIP_MM
    source = recording(tmp_path / "pointer.igs.mha", {"StylusToProbe": tools}, frames=np.zeros((20, 70, 60), np.uint8))
    (tmp_path / "tips.csv").write_text("\n".join(["frame,x,y", *(f"{n},{x},{y}" for n, (x, y) in enumerate(pixels))]))
    assert run("pointer", source, "--points", tmp_path / "tips.csv", "--tip", ",".join(str(v) for v in TIP_MM),
               "--json", tmp_path / "out2.json") == 0
    assert np.allclose(json.loads((tmp_path / "out2.json").read_text())["ImageToProbe"], phantom.image_to_probe,
                       atol=1e-5)


def test_temporal_from_tables(tmp_path) -> None:
    times, track = np.arange(100, 112, 0.09), np.arange(99, 113, 0.03)
    def way(t):
        return 10 * np.sin(2.3 * t) + 4 * np.sin(5.1 * t + 1)
    (tmp_path / "rows.csv").write_text("\n".join(["time_s,row_px", *(f"{t},{200 + 9 * way(t)}" for t in times)]))
    (tmp_path / "probe.csv").write_text("\n".join(["time_s,x,y,z,qw,qx,qy,qz", *(
        f"{t + 0.12},{way(t)},0,500,1,0,0,0" for t in track)]))
    assert run("temporal", tmp_path / "rows.csv", "--tracker", tmp_path / "probe.csv", "--json",
               tmp_path / "lag.json") == 0
    values = json.loads((tmp_path / "lag.json").read_text())
    assert values["lag_s"] == pytest.approx(0.12, abs=0.002)
    assert values["units"] == "s"


@pytest.mark.parametrize(("name", "text", "words"), [
    ("gone.csv", None, "can't be read"),
    ("a.csv", "x,y\n1,2", "first line must name"),
    ("b.csv", "x,y,z,qw,qx,qy,qz\n1,2,3,1,0,0,zero", "row 1"),
    ("c.csv", "x,y,z,qw,qx,qy,qz\n1,2,3,5,0,0,0", "quaternion"),
    ("d.json", "{", "no JSON"),
    ("e.json", '{"poses": [[1, 2]]}', "2 numbers"),
    ("f.json", '{"poses": [[1, 2, NaN]]}', "not finite"),
    ("g.xyz", "", "no table of poses"),
    ("h.igs.mha", "not a header", "h.igs.mha"),
])
def test_bad_files_give_one_line_and_status_2(tmp_path, capsys, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert run("pivot", tmp_path / name, "--json", tmp_path / "x.json") == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.json", '{"moving": [[0, 0, 0], [1, 2]], "fixed": []}', "lists of three numbers"),
    ("b.json", '{"moving": [[0, 0, 0]], "fixed": [[0, 0, 0]], "names": 7}', "names aren't a list"),
    ("c.json", '{"moving": [[0, 0, 0]], "fixed": []}', "1 moving and 0 fixed"),
    ("d.json", "[]", "give the fixed points with --fixed"),
    ("e.csv", "name,moving_x\n", "first line must name"),
    ("f.csv", "moving_x,moving_y,moving_z,fixed_x,fixed_y,fixed_z\n1,2,3,4,5", "fixed_z of row 1"),
])
def test_bad_landmarks_give_one_line_and_status_2(tmp_path, capsys, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    assert run("landmarks", tmp_path / name, "--json", tmp_path / "x.json") == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.mrk.json", '{"markups": [{"coordinateSystem": "XYZ", "controlPoints": []}]}', "unknown"),
    ("b.mrk.json", '{"markups": [{"controlPoints": [{"label": "a", "position": [1, 2]}]}]}', "three numbers"),
    ("c.mrk.json", '{"markups": 3}', "holds no markups"),
    ("d.fcsv", "f0,1,2,zero,0,0,0,1,1,1,0,a", "three numbers"),
    ("e.csv", "name,x,y,z\na,1,2,3\na,4,5,6", "two points are named 'a'"),
    ("f.stl", "", "no list of points"),
])
def test_bad_lists_of_points_are_named(tmp_path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_named_points(tmp_path / name)


def test_points_that_were_not_placed_are_left_out(tmp_path) -> None:
    (tmp_path / "m.mrk.json").write_text(json.dumps({"markups": [{"coordinateSystem": "LPS", "controlPoints": [
        {"label": "", "position": [1, 2, 3]},
        {"label": "b", "position": [4, 5, 6], "positionStatus": "undefined"}]}]}))
    read = read_named_points(tmp_path / "m.mrk.json")
    assert read.names == ("1",)
    assert np.array_equal(read.points_mm, [[-1, -2, 3]])


def test_unknown_transforms_and_wires_are_named(tmp_path, capsys) -> None:
    phantom = make_phantom()
    write_config(tmp_path / "phantom.xml", phantom)
    source = recording(tmp_path / "s.igs.mha", {"ProbeToTracker": np.tile(np.eye(4), (12, 1, 1))})
    assert run("pivot", source, "--json", tmp_path / "x.json") == 2
    assert "StylusToReference can't be had" in capsys.readouterr().err
    (tmp_path / "dots.csv").write_text("frame,wire,x,y\n0,zz,1,2")
    assert run("nwire", source, "--points", tmp_path / "dots.csv", "--config", tmp_path / "phantom.xml", "--json",
               tmp_path / "x.json") == 2
    assert "names the wire 'zz'" in capsys.readouterr().err
    (tmp_path / "dots.csv").write_text("frame,wire,x,y\n99,a1,1,2")
    assert run("nwire", source, "--points", tmp_path / "dots.csv", "--config", tmp_path / "phantom.xml", "--json",
               tmp_path / "x.json") == 2
    assert "frames 0 to 11" in capsys.readouterr().err
