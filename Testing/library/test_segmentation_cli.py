"""`irai segment`: the console's way in, with its exit codes."""

from __future__ import annotations

import numpy as np
import pytest
import segmentation_bundle_maker as maker
from IRAILib.cli.main import main
from IRAILib.images import read_mask, read_volume, write_volume


@pytest.fixture
def image(tmp_path):
    volume, truth = maker.oblique_case()
    write_volume(volume, tmp_path / "image.nrrd")
    middle = truth.grid.points_ras(np.argwhere(truth.array).mean(axis=0)[None])[0]
    return tmp_path / "image.nrrd", truth, ",".join(f"{v:.2f}" for v in middle)


def test_clicks_to_a_mask_file(image, tmp_path, capsys):
    path, truth, middle = image
    assert main(["segment", "seeded", str(path), f"--inside={middle}", "--out", str(tmp_path / "mask.nii.gz")]) == 0
    mask = read_mask(tmp_path / "mask.nii.gz")
    assert 2 * (mask.array & truth.array).sum() / (mask.array.sum() + truth.array.sum()) > 0.93
    assert "validated on" in capsys.readouterr().out


@pytest.mark.parametrize("point", ["1,2", "a,b,c", "9999,0,0", "nan,0,0"])
def test_a_bad_point_is_one_line_and_exit_2(image, tmp_path, capsys, point):
    code = main(["segment", "seeded", str(image[0]), f"--inside={point}", "--out", str(tmp_path / "mask.nii.gz")])
    assert code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "mask.nii.gz").exists()


def test_bundle_shows_its_card_and_refuses_code(image, tmp_path, capsys):
    pytest.importorskip("torch", reason='needs torch: pip install "irai[torch]"')
    pytest.importorskip("monai", reason='needs monai: pip install "irai[torch]"')
    bundle = maker.write_bundle(tmp_path / "blob", maker.trained_state())
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", "bundle", str(bundle), str(image[0]), "--out", str(out)]) == 0
    assert "Licence: CC0-1.0" in capsys.readouterr().out
    assert set(np.unique(read_volume(out).array)) == {0, 1}
    config = maker.inference_config()
    config["network_def"] = "$__import__('os').getcwd()"
    evil = maker.write_bundle(tmp_path / "evil", {}, config=config)
    assert main(["segment", "bundle", str(evil), str(image[0]), "--out", str(tmp_path / "no.nii.gz")]) == 3
    assert not (tmp_path / "no.nii.gz").exists()
