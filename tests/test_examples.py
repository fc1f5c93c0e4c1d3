"""The examples and the benchmarks run, and the README shows what they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SETUP = ("pip install -c constraints.txt . && autogroup demo", "pip install -c constraints.txt '.[test]' && pytest")


def run(*command: str, folder: Path) -> str:
    """Run Python in ``folder`` on the checkout; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    environment["MPLCONFIGDIR"] = str(folder)
    options: dict[str, Any] = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([sys.executable, *command], check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    assert run(str(example), "--smoke", folder=tmp_path).strip()


def test_digits_example_draws_and_names_the_mistakes_of_the_filter(tmp_path: Path) -> None:
    printed = run(str(ROOT / "examples/digits_resnet.py"), "--smoke", "--out", "plots/a.png", folder=tmp_path)
    assert (tmp_path / "plots/a.png").read_bytes().startswith(b"\x89PNG")
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    for missed in ("layer1.reduce.weight", "layer1.shortcut.0.weight", "layer2.shortcut.0.weight"):
        assert "invariant" in rows[missed] and "silent" in rows[missed]
    assert "wrong" in rows["final_conv.weight"]
    assert "right" in rows["layer2.conv2.weight"]
    assert "AdamSRT, autogroup" in printed


def test_benchmark_runs_and_keeps_its_memory_budget(tmp_path: Path) -> None:
    run("-m", "benchmarks.analysis", "--smoke", "--json", "numbers.json", folder=tmp_path)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["models"]["median_infer_over_capture"] > 0
    assert len(numbers["depth"]["infer_per_layer_relative"]) == 2
    assert numbers["large"]["rss_growth_gb"] < 2
    assert numbers["large"]["invariant"] > 0


def test_readme_shows_the_quickstart() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = (ROOT / "examples/quickstart.py").read_text(encoding="utf-8").split('"""', 2)[2].strip()
    assert code in re.findall(r"```python\n(.*?)\n```", readme, re.DOTALL)


def test_readme_shows_what_the_quickstart_prints(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = run(str(ROOT / "examples/quickstart.py"), folder=tmp_path)
    table = "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
    assert table in re.findall(r"```text\n(.*?)\n```", readme, re.DOTALL), "paste the new output into README.md"


def test_readme_has_exactly_the_two_setup_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    installs = [line for line in readme.splitlines() if line.startswith("pip install")]
    assert installs == list(SETUP)
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in SETUP:
        assert f'step "{command}"' in script
        for part in command.split(" && "):
            assert part.replace("pip install", "pip install -q") in script
