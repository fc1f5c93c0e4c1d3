"""The lock file: the same plan gives the same text, any regrouping shows, and no other file is ever replaced."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autogroup.api import analyze
from autogroup.errors import LoadError
from autogroup.lock import Change, Lock, LockCheck, Plan, changes
from autogroup.render.lint import print_lock

MATRIX = Plan((8, 4), "linear", "invariant", (0,), None, True)
GAIN = Plan((8,), "norm_scale", "variant", None, None, True)


def net(groups: int = 8) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.GroupNorm(groups, 8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def lock_of(model: nn.Module) -> Lock:
    return Lock.of(analyze(model, torch.zeros(2, 3, 8, 8)))


# --- the text ---------------------------------------------------------------------------------------------------


def test_one_line_per_parameter_in_model_order() -> None:
    model = net()
    text = lock_of(model).text()
    lines = text.splitlines()
    names = [name for name, _ in model.named_parameters()]
    assert [line.split('"')[1] for line in lines[3:-2]] == names
    assert list(json.loads(text)["parameters"]) == names
    assert text == lock_of(net()).text()


def test_a_lock_survives_its_file(tmp_path: Path) -> None:
    lock = lock_of(net(groups=2))
    assert lock.plans["0.weight"].channel_groups == 2
    lock.write(tmp_path / "net.lock")
    assert Lock.read(tmp_path / "net.lock") == lock
    assert (tmp_path / "net.lock").read_bytes() == lock.text().encode()


def test_a_model_without_parameters_has_a_lock() -> None:
    assert Lock.parse(Lock({}).text()) == Lock({})


# --- changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": (8, 5)},
        {"role": "head"},
        {"verdict": "variant"},
        {"channel_dims": ()},
        {"channel_groups": 4},
        {"trainable": False},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_part_of_the_plan_counts(changed: dict[str, Any]) -> None:
    now = replace(MATRIX, **changed)
    assert changes(Lock({"w": MATRIX}), Lock({"w": now})) == (Change("w", MATRIX, now),)
    assert str(now) != str(MATRIX)


def test_new_removed_and_renamed_parameters() -> None:
    before = Lock({"a.weight": MATRIX, "norm.gain": GAIN, "gone": replace(MATRIX, shape=(9, 9))})
    after = Lock({"b.weight": MATRIX, "norm.gain": GAIN, "new": replace(GAIN, shape=(3,))})
    assert changes(before, after) == (
        Change("a.weight", MATRIX, MATRIX, "b.weight"),
        Change("gone", before.plans["gone"], None),
        Change("new", None, after.plans["new"]),
    )


def test_equal_layers_that_are_renamed_are_paired_in_order() -> None:
    before = Lock({f"layer.{i}.weight": MATRIX for i in range(3)})
    after = Lock({f"blocks.{i}.weight": MATRIX for i in range(3)})
    assert [change.renamed for change in changes(before, after)] == [f"blocks.{i}.weight" for i in range(3)]


def test_order_alone_is_no_change() -> None:
    assert changes(Lock({"a": MATRIX, "b": GAIN}), Lock({"b": GAIN, "a": MATRIX})) == ()


def test_another_norm_is_a_change() -> None:
    (change,) = changes(lock_of(net(groups=8)), lock_of(net(groups=2)))
    assert (change.name, change.now.channel_groups) == ("0.weight", 2)


# --- wrong files ------------------------------------------------------------------------------------------------

_LINE = '"w": {"shape": [1], "role": "bias", "verdict": "variant", "channel_dims": null, "channel_groups": null'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not JSON"),
        ("<<<<<<< HEAD\n{}", "line 1"),
        ("[]", "no lock file of autogroup"),
        ('{"schema": 2, "parameters": []}', "no lock file of autogroup"),
        ('{"autogroup_lock": 99, "parameters": {}}', "schema 99"),
        ('{"autogroup_lock": 1}', "damaged"),
        ('{"autogroup_lock": 1, "parameters": [1]}', "damaged"),
        ('{"autogroup_lock": 1, "parameters": {"w": 3}}', "'w'"),
        ('{"autogroup_lock": 1, "parameters": {' + _LINE + "}}}", "its keys are"),
        ('{"autogroup_lock": 1, "parameters": {' + _LINE.replace("bias", "boss") + ', "trainable": true}}}', "'boss'"),
        ('{"autogroup_lock": 1, "parameters": {' + _LINE.replace("[1]", "1") + ', "trainable": true}}}', "'w'"),
    ],
)
def test_what_is_no_lock_file_is_one_clear_error(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "net.lock"
    path.write_text(text)
    with pytest.raises(LoadError) as caught:
        Lock.read(path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_file_that_is_not_text_or_not_there_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError, match="is not text"):
        Lock.read(tmp_path / "binary")
    with pytest.raises(LoadError, match="cannot be read"):
        Lock.read(tmp_path / "missing")
    with pytest.raises(LoadError, match="cannot be written"):
        Lock({}).write(tmp_path / "missing" / "net.lock")


def test_nothing_is_replaced_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "net.lock"
    Lock({"w": MATRIX}).write(path)
    with pytest.raises(LoadError, match="File exists"):
        Lock({"w": GAIN}).write(path)
    assert Lock.read(path) == Lock({"w": MATRIX})
    Lock({"w": GAIN}).write(path, update=True)
    assert Lock.read(path) == Lock({"w": GAIN})


# --- what is printed --------------------------------------------------------------------------------------------


def test_changes_read_like_a_diff() -> None:
    before = Lock({"a.weight": MATRIX, "norm.gain": GAIN, "gone": replace(GAIN, trainable=False)})
    after = Lock(
        {"b.weight": MATRIX, "norm.gain": replace(GAIN, role="other"), "new": replace(MATRIX, channel_groups=2)}
    )
    text = io.StringIO()
    print_lock(LockCheck("net.lock", "differs", changes(before, after)), "net.py:build", file=text)
    assert text.getvalue().splitlines() == [
        "--- net.lock",
        "+++ net.py:build",
        " a.weight -> b.weight  8x4 linear invariant channel_dims=(0,)",
        "-norm.gain  8 norm_scale variant",
        "+norm.gain  8 other variant",
        "-gone  8 norm_scale variant frozen",
        "+new  8x4 linear invariant channel_dims=(0,) channel_groups=2",
        "",
        "net.lock: 4 parameters differ; --update-lock accepts that",
    ]
