"""The command line as a whole: every command is there, and a command loads no other."""

from __future__ import annotations

import subprocess
import sys

import pytest
from IRAILib.cli.main import ELSEWHERE, MODULES, build_parser


def commands(parser) -> set[str]:
    return set(parser._subparsers._group_actions[0].choices)


def test_one_command_parses_as_the_whole_does() -> None:
    whole = commands(build_parser())
    assert whole == {*MODULES, *ELSEWHERE}
    for name in whole:
        assert name in commands(build_parser(name))
    assert commands(build_parser("nonsense")) == whole


def test_the_link_starts_without_what_the_margin_needs() -> None:
    heavy = ("SimpleITK", "scipy.ndimage", "IRAILib.ablation", "vtk")
    code = ("import sys; from IRAILib.cli.main import main\n"
            "try: main(['link', 'monitor', '--help'])\nexcept SystemExit: pass\n"
            f"print([name for name in {heavy!r} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["nonsense"], ["link"], []])
def test_a_wrong_command_is_said_with_2(words, capsys) -> None:
    from IRAILib.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "irai" in capsys.readouterr().err
