"""The digits benchmark: it trains, it fails below its bar, and its page has every optimizer."""

import re
import warnings
from collections.abc import Iterator

import pytest
import torch

import optimizers

pytest.importorskip("sklearn", reason="scikit-learn brings the digits")

from benchmarks import digits


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using backward.. with create_graph=True", UserWarning)
        yield


@pytest.mark.parametrize("name", ["adamsrt", "adahessian", "pcgrad", "sam"])
def test_two_epochs_teach_something(name: str) -> None:
    assert digits.train(name, seed=0, epochs=2) > 60


def test_the_command_fails_below_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert digits.main(["--only", "adamsrt", "--seeds", "0", "--epochs", "0"]) == 1
    assert "below 95 %: adamsrt" in capsys.readouterr().out
    assert digits.main(["--only", "adamsrt", "--seeds", "0", "--epochs", "4"]) == 0
    assert torch.get_num_threads() == 1


def test_the_page_has_every_optimizer_at_its_bar() -> None:
    text = digits.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+)( \*)? \| [\w.-]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|$", text, re.MULTILINE)
    assert [name for name, *_ in rows] == [*optimizers.list_optimizers(), *optimizers.list_wrappers()]
    assert {name for name, mark, *_ in rows if mark} == digits.OPTIONS.keys()
    assert all(float(mean) >= digits.REQUIRED for _, _, mean, _ in rows)
