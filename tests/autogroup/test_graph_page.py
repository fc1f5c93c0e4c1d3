"""The page in a headless Chromium, opened from the disk: search, choose, read the path; no error in the console."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import autogroup
from autogroup.render.graph import save_graph
from autogroup.render.graph.text import printable
from autogroup.report import ParameterReport, Relation, Report, Step
from benchmarks.models import resnet50
from tests.autogroup import browser
from tests.autogroup.test_graph import HOSTILE, hostile_report, make_report

reason = browser.missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Write the page of a report and open it; afterwards the console must be empty."""

    def show(report: Report, address: str = "", title: str = "net") -> Any:
        save_graph(report, tmp_path / "net.html", title=title)
        chromium.get(f"file://{tmp_path / 'net.html'}{address}")
        return chromium

    chromium.get("about:blank")
    chromium.get_log("browser")
    yield show
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    requested = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert chromium.execute_script(requested) == []


def texts(driver: Any, selector: str) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)", selector
    )


def wait_for(driver: Any, selector: str, wanted: list[str]) -> None:
    """Wait for what the browser does in its own time, such as telling of a new address."""
    deadline = time.monotonic() + 10
    while texts(driver, selector) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert texts(driver, selector) == wanted


def click(driver: Any, selector: str) -> None:
    """Click as a person does: at the middle of what is seen."""
    driver.find_element("css selector", selector).click()


def press(driver: Any, selector: str, keys: str) -> None:
    driver.find_element("css selector", selector).send_keys(keys)


def names(driver: Any) -> list[str]:
    return texts(driver, "tr[data-index] td.name")


def many_parameters(count: int) -> Report:
    """Blocks of eight, with a norm for every second parameter."""
    parameters: list[ParameterReport] = []
    relations: list[Relation] = []
    for index in range(count):
        module = f"blocks.{index // 8}.unit"
        step = Step("aten.rms_norm.default", f"{module}.norm", "nets.py:7", "is normalized by rms_norm")
        name, normed = f"{module}.p{index % 8}", index % 2 == 0
        verdict = "invariant" if normed else "variant"
        parameters.append(ParameterReport(name, (8, 8), verdict, f"reason of {name}", path=(step,)))
        if normed:
            relations.append(Relation(name, f"{module}.norm", step.operator, step.source))
    return Report({p.name: p for p in parameters}, tuple(relations))


def test_search_narrows_the_table_and_says_so(page: Open) -> None:
    driver = page(make_report())
    assert len(names(driver)) == 6
    press(driver, "body", "/")
    driver.switch_to.active_element.send_keys("STEM weight")
    assert names(driver) == ["stem.conv.weight", "stem.norm.weight"]
    assert texts(driver, "#shown") == ["2 of 6 parameters"]
    driver.switch_to.active_element.send_keys(" nothing")
    assert names(driver) == []
    click(driver, ".empty button")
    assert len(names(driver)) == 6


def test_a_click_shows_reason_and_path(page: Open) -> None:
    driver = page(make_report())
    click(driver, "tr[data-index='0']")
    assert texts(driver, "#detail h2") == ["stem.conv.weight"]
    assert texts(driver, ".lead") == ["Is normalized by batch_norm in stem.norm"]
    assert texts(driver, "#path code") == ["conv2d", "batch_norm"]
    assert texts(driver, "#path .source") == ["nets.py:12", "nets.py:13"]
    assert texts(driver, "#path .ending") == ["Here the scale is removed"]
    assert driver.current_url.endswith("#param=stem.conv.weight")
    press(driver, "body", "\ue00c")  # Escape
    assert texts(driver, "#detail h2") == ["About this model"]


def test_the_address_leads_to_a_parameter_and_a_view(page: Open) -> None:
    driver = page(make_report(), "#param=mlp.up.weight&view=graph")
    assert texts(driver, "#detail h2") == ["mlp.up.weight"]
    assert texts(driver, ".parameter.selected title") == ["mlp.up.weight: joint"]
    assert set(texts(driver, ".parameter.related title")) == {"mlp.up.bias: joint", "table: unknown"}
    assert texts(driver, ".norm.selected title") == ["rms_norm in mlp"]
    driver.execute_script("location.hash = '#param=table'")
    wait_for(driver, "#detail h2", ["table"])
    assert not driver.find_element("id", "picture").is_displayed()


def test_verdicts_filter_and_columns_sort(page: Open) -> None:
    driver = page(make_report())
    click(driver, ".chip[data-verdict=joint]")
    assert names(driver) == ["mlp.up.weight", "mlp.up.bias"]
    click(driver, ".chip[data-verdict=unused]")
    assert len(names(driver)) == 3
    click(driver, "th.elements button")
    assert names(driver) == ["mlp.up.bias", "mlp.fused", "mlp.up.weight"]
    click(driver, "th.elements button")
    assert names(driver) == ["mlp.up.weight", "mlp.fused", "mlp.up.bias"]
    assert texts(driver, "th[aria-sort=descending]") == ["Shape"]


def test_the_tree_narrows_to_a_module(page: Open) -> None:
    driver = page(many_parameters(64))
    click(driver, "button[data-module=blocks]")
    wait_for(driver, "#tree .folded", ["0-78 alike"])
    click(driver, "#tree details details > summary")
    wait_for(driver, "button[data-module='blocks.3']", ["38"])
    click(driver, "button[data-module='blocks.3']")
    assert names(driver) == [f"blocks.3.unit.p{i}" for i in range(8)]
    assert texts(driver, "#shown") == ["8 of 64 parameters in blocks.3"]


def test_the_keyboard_moves_through_the_table(page: Open) -> None:
    driver = page(many_parameters(500))
    press(driver, "#scroll", "\ue015")  # down
    assert texts(driver, "#detail h2") == ["blocks.0.unit.p0"]
    press(driver, "#scroll", "\ue010")  # end
    assert texts(driver, "#detail h2") == ["blocks.62.unit.p3"]
    assert names(driver)[-1] == "blocks.62.unit.p3"


def test_a_click_in_the_graph_selects_and_the_mouse_zooms(page: Open) -> None:
    driver = page(make_report())
    click(driver, "#tab-graph")
    click(driver, ".parameter[data-index='0'] .edge")
    assert texts(driver, "#detail h2") == ["stem.conv.weight"]
    assert len(texts(driver, ".marks .relation")) == 1
    assert texts(driver, "#legend li")[0] == "invariant"
    before = driver.execute_script("return document.querySelector('svg > g').getAttribute('transform')")
    click(driver, "#zoom button")
    assert driver.execute_script("return document.querySelector('svg > g').getAttribute('transform')") != before


def test_the_theme_can_be_switched(page: Open) -> None:
    driver = page(make_report())
    colour = "return getComputedStyle(document.body).backgroundColor"
    before = driver.execute_script(colour)
    click(driver, "#theme")
    assert driver.execute_script(colour) != before
    click(driver, "#theme")
    assert driver.execute_script(colour) == before


def test_hostile_names_are_text(page: Open) -> None:
    report = hostile_report()
    driver = page(report, "#view=graph", title=HOSTILE[0])
    assert driver.title == f"{HOSTILE[0]} · autogroup"
    assert texts(driver, "h1") == [HOSTILE[0]]
    assert len(texts(driver, "script")) == 2
    click(driver, "#tab-table")
    assert names(driver) == [printable(name) for name in report.parameters]
    for index, name in enumerate(report.parameters):
        driver.execute_script(f"document.querySelector(\"tr[data-index='{index}']\").click()")
        assert texts(driver, "#detail h2") == [printable(name)]
        address = driver.execute_script("return location.hash")
        driver.execute_script("location.hash = ''")
        wait_for(driver, "#detail h2", ["About this model"])
        driver.execute_script(f"location.hash = {json.dumps(address)}")
        wait_for(driver, "#detail h2", [printable(name)])
    assert driver.title == f"{HOSTILE[0]} · autogroup"


@pytest.mark.parametrize("count", [1000, 5000])
def test_large_models_open_fast(page: Open, count: int) -> None:
    start = time.perf_counter()
    driver = page(many_parameters(count), "#view=graph")
    assert len(texts(driver, ".parameter")) == count
    assert texts(driver, "#shown") == [f"{count:,} parameters"]
    assert time.perf_counter() - start < 3 * count / 1000
    press(driver, "#search", "p3")
    start = time.perf_counter()
    click(driver, "#tab-table")
    assert texts(driver, "#shown") == [f"{count // 8:,} of {count:,} parameters"]
    assert time.perf_counter() - start < 1


def test_a_resnet_50_written_by_hand_fits_and_opens(page: Open, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = resnet50()
    report = autogroup.analyze(model, (torch.empty(2, 3, 64, 64, device="meta"),))
    assert len(report.parameters) == 161
    name = report.only(["invariant"])[-1].name
    driver = page(report, f"#param={name}")
    assert texts(driver, "#detail h2") == [name]
    assert (tmp_path / "net.html").stat().st_size < 400_000
    assert "batch_norm" in texts(driver, "#path code")


@pytest.mark.zoo
def test_the_page_of_torchvisions_resnet_50_is_small(page: Open, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    report = autogroup.analyze(models.resnet50(), (torch.zeros(2, 3, 64, 64),))
    driver = page(report)
    assert (tmp_path / "net.html").stat().st_size < 2_000_000
    assert texts(driver, "#shown") == ["161 parameters"]
