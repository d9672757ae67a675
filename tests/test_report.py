import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, requests, resize
from fabricated_runs import CHOICES, make_grid

from prixfixe.cli import main
from prixfixe.report import write_report

ATTACK = "</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'>"
FAILED = "bhi+conv+bilstm+mlp"
MISSING = "bhi+kmer+proformer+mlp"
RUNNING = "autosome+conv+bilstm+mlp"
SMALL = {
    "recipe": ("autosome", "bhi"),
    "first": ("conv",),
    "core": ("bilstm", "efficientnet"),
    "final": ("mlp", "soft_bins"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an unfinished sweep of 81, with a reason that would like to be a script."""
    folder = tmp_path_factory.mktemp("report")
    sweep = make_grid(
        folder / "grid81", n=200, failed={FAILED: f"TrainingError: {ATTACK}"}, missing=[MISSING], running={RUNNING: 2}
    )
    return write_report([sweep], folder / "report.html", samples=100)[0]


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return report.read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees."""
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)))


def test_report_says_everything(page: str) -> None:
    text = " ".join(words(page).split())
    for part in (
        *(
            "SIMULATED assay: all runs",
            "78 of 81 combinations done, 1 failed",
            "Findings",
            "Recipe autosome raises Pearson r by",
        ),
        *(
            "has the best average rank",
            "cannot be told apart",
            "Pareto front: Pearson r against trainable parameters",
            "Learning curves",
        ),
        *(
            "signed-rank test",
            "type II sums of squares",
            "10.1038/s41587-024-02414-w",
            "hydra-core 1.3.8",
            "NVIDIA H200",
        ),
        *(f"never started: {MISSING}", f"{FAILED}: failed: TrainingError: {ATTACK}"),
        *(
            "prixfixe report",
            "prixfixe train recipe=autosome first=conv core=bilstm final=soft_bins experiment=demo hydra.mode=RUN",
        ),
    ):
        assert part in text, part
    for score in ("pearson_r", "spearman_rho", "kl", "mse"):
        heat = re.search(rf'id="heat-{score}".*?</figure>', page, flags=re.DOTALL)
        assert heat is not None
        assert len(re.findall(r"<td[^>]*data-details", heat[0])) == 81
    table = re.search(r'<table class="runs" id="runs">.*?</table>', page, flags=re.DOTALL)
    assert table is not None and len(re.findall(r"<tr>", table[0])) == 82
    figures = re.findall(r'<figure id="figure-(\w+)"', page)
    assert figures == [
        "effects",
        "variance",
        "interactions",
        "ranks",
        "critical_difference",
        "costs",
        "learning_curves",
    ]
    assert len(re.findall(r'<svg role="img" aria-label="[^"]{20,}"', page)) == len(figures)


def test_report_is_one_small_file_that_asks_for_nothing(page: str) -> None:
    assert len(page) < 2_000_000
    assert not re.findall(r"<(?:script|img|iframe|link|object|embed)[^>]*(?:src|href)=\"(?!data:)", page)
    assert not re.findall(r"@import|url\((?!#)", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert unescape(policy[1]).startswith("default-src 'none';")


def test_nothing_from_a_folder_becomes_markup(page: str) -> None:
    assert "<script>window" not in page
    assert "onerror='" not in page
    data = json.loads(re.search(r'id="details">(.*?)</script>', page, flags=re.DOTALL)[1])  # type: ignore[index]
    assert ["reason", f"TrainingError: {ATTACK}"] in [line for lines in data for line in lines]


def test_the_same_folders_give_the_same_report(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "grid", choices=SMALL, n=30, simulated=False)
    pages = [write_report([sweep], tmp_path / "report.html", samples=20)[0].read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]
    assert b"SIMULATED" not in pages[0]


def test_seeds_are_averaged_and_evaluations_shown(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "grid", choices=SMALL, seeds=(0, 1), n=30, test=200)
    page = write_report([sweep], tmp_path / "report.html", samples=20)[0].read_text()
    text = words(page)
    assert "8 of 8 combinations done (16 runs, seeds averaged)" in text
    assert "Spearman score of all combinations" in unescape(page)
    assert re.search(r"0\.\d{3} ± 0\.0\d{2}", text)
    assert "20 bootstrap samples of 10 % of the test set" in text


def test_the_command_of_the_report_makes_the_same_report(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "grid", choices=SMALL, n=30)
    page = write_report([sweep], tmp_path / "report.html", score="kl", samples=20)[0].read_text()
    command = f"prixfixe report {sweep} -o {tmp_path / 'report.html'} --score kl --samples 20"
    assert f"This report: {command} " in " ".join(words(page).split())
    plain = write_report([sweep / FAILED], tmp_path / "report.html")[0].read_text()
    assert "--samples" not in words(plain)


def test_damage_is_named_and_passed_over(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "grid", choices=SMALL, n=30)
    files = ("config.yaml", "status.json", "metrics.json", "history.csv", "validation.npz")
    for folder, file in zip(sorted(sweep.glob("*/")), files, strict=False):
        (folder / file).write_bytes(b"\xff{half a file")
    text = words(write_report([sweep], tmp_path / "report.html", samples=20)[0].read_text())
    for folder, file in zip(sorted(sweep.glob("*/")), files, strict=False):
        assert f"{folder.name}/{file}" in text
    assert "5 of 5 combinations done" in text  # without a history or predictions there are still scores


def test_one_run_and_a_sweep_that_has_not_begun(tmp_path: Path) -> None:
    sweep = make_grid(tmp_path / "grid", choices=SMALL, n=30)
    alone = words(write_report([sweep / "bhi+conv+bilstm+mlp"], tmp_path / "alone.html")[0].read_text())
    assert "1 of 1 combination done" in alone
    assert "The only finished combination has a Pearson r of 0.6" in alone
    assert alone.count("no two of one slot have finished") == 1
    assert "No bootstrap ranks" in alone
    page = (tmp_path / "alone.html").read_text()
    assert 'class="heat"' in page and 'class="scale"' not in page, "one value spans no scale"
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    (nothing / "sweep.json").write_text((sweep / "sweep.json").read_text())
    assert "0 of 8 combinations done, 8 never started" in words(
        write_report([nothing], tmp_path / "none.html")[0].read_text()
    )


def test_command_writes_figures_without_torch(tmp_path: Path) -> None:
    make_grid(tmp_path / "grid", choices=SMALL, n=30)
    code = "import sys; from prixfixe.cli import main; code = main(sys.argv[1:]); "
    code += "print('torch' in sys.modules); sys.exit(code)"
    arguments = [
        "report",
        "grid",
        "-o",
        "out/report.html",
        "--figures",
        "figures",
        "--format",
        "svg",
        "--samples",
        "20",
    ]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["out/report.html", "11 figures in figures", "False"]
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert {"grid_pearson_r", "grid_kl", "effects", "interactions", "ranks", "costs", "learning_curves"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["."], "holds no runs"),
        (["grid", "--format", "svg,gif"], "gif is none of svg, pdf, png"),
        (["grid", "--score", "accuracy"], "accuracy is none of kl, pearson_r"),
        (["grid", "--samples", "-1"], "--samples -1"),
        (["grid", "-o", "."], "is a folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_grid(tmp_path / "here" / "grid", choices={slot: names[:1] for slot, names in CHOICES.items()}, n=10)
    (tmp_path / "here" / "grid").rename(tmp_path / "grid")
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


# ---- in a real browser


@pytest.fixture(scope="module")
def driver(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get("about:blank")
        requests(driver)
        yield driver


@pytest.fixture
def browser(driver: Any, report: Path) -> Iterator[Any]:
    """The report, freshly opened at desktop width; afterwards the console must be empty and nothing else asked for."""
    resize(driver, 1280, 900)
    driver.get(report.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    assert {url for url in requests(driver) if not url.startswith(("data:", "chrome:"))} == {report.as_uri()}
    assert driver.execute_script("return window.hacked") is None


def column(browser: Any, name: str, visible: bool = True) -> list[str]:
    script = """
        const table = document.getElementById("runs");
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.column === arguments[0]);
        const rows = [...table.tBodies[0].rows].filter((row) => !arguments[1] || row.offsetParent);
        return rows.map((row) => row.cells[place].dataset.value);
    """
    return list(browser.execute_script(script, name, visible))


def heading(browser: Any, name: str) -> Any:
    return browser.find_element("css selector", f"#runs th[data-column={name}]")


def test_table_sorts_by_mouse(browser: Any) -> None:
    assert column(browser, "rank") == [str(rank) for rank in range(1, 82)]
    heading(browser, "kl").find_element("tag name", "button").click()
    values = column(browser, "kl")
    assert [float(v) for v in values[:78]] == sorted(float(v) for v in values[:78])
    assert values[78:] == [""] * 3
    assert heading(browser, "kl").get_attribute("aria-sort") == "ascending"
    assert heading(browser, "rank").get_attribute("aria-sort") == "none"
    heading(browser, "kl").find_element("tag name", "button").click()
    assert column(browser, "kl") == [*values[77::-1], "", "", ""]  # what has no value stays last
    heading(browser, "pearson_r").find_element("tag name", "button").click()
    assert heading(browser, "pearson_r").get_attribute("aria-sort") == "descending"  # the best first
    heading(browser, "core").find_element("tag name", "button").click()
    assert column(browser, "core") == sorted(column(browser, "core"))


def test_table_sorts_by_keyboard_and_shows_the_focus(browser: Any) -> None:
    button = heading(browser, "final").find_element("tag name", "button")
    browser.execute_script("document.getElementById('words').focus()")
    for _ in range(30):
        browser.switch_to.active_element.send_keys("\ue004")  # Tab
        if browser.switch_to.active_element == button:
            break
    assert browser.switch_to.active_element == button
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    button.send_keys("\ue007")  # Enter
    assert heading(browser, "final").get_attribute("aria-sort") == "ascending"
    assert column(browser, "final") == sorted(column(browser, "final"))


def test_table_filters_by_words_and_menus(browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    field = browser.find_element("id", "words")
    field.send_keys("BILSTM soft_b")
    assert len(column(browser, "core")) == 9
    assert set(column(browser, "core")) == {"bilstm"}
    assert browser.find_element("id", "shown").text == "9 of 81 shown"
    menu = browser.find_element("css selector", "select[name=recipe]")
    menu.send_keys("bhi")
    assert column(browser, "recipe") == ["bhi"] * 3
    browser.find_element("css selector", "#filters button[type=reset]").click()
    WebDriverWait(browser, 30).until(lambda _: len(column(browser, "core")) == 81)  # it filters after the event
    browser.find_element("css selector", "select[name=state]").send_keys("failed")
    assert column(browser, "state") == ["failed"]
    field.send_keys("there is no such run\ue007")
    assert column(browser, "state") == []
    assert browser.find_element("id", "shown").text == "0 of 81 shown"


def cell(browser: Any, score: str, text: str) -> Any:
    return browser.find_element("xpath", f"//*[@id='heat-{score}']//td[normalize-space()='{text}']")


def test_hovering_shows_the_details_of_a_cell(browser: Any) -> None:
    from selenium.webdriver import ActionChains

    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    failed = cell(browser, "kl", "×")  # noqa: RUF001
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", failed)
    ActionChains(browser).move_to_element(failed).perform()
    assert tip.is_displayed()
    assert "state failed" in tip.text
    assert ATTACK in tip.text  # as text
    best = browser.find_element("css selector", "#heat-pearson_r td[data-details]")
    ActionChains(browser).move_to_element(best).perform()
    for line in (
        "recipe autosome",
        "core bilstm",
        f"Pearson r {best.text}",
        "KL ",
        "MSE ",
        "Spearman rho ",
        "parameters ",
    ):
        assert line in tip.text
    box, page = tip.rect, browser.execute_script("return document.documentElement.clientWidth")
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page
    best.send_keys("\ue00c")  # Escape
    assert not tip.is_displayed()


def test_arrow_keys_walk_over_a_heat_map(browser: Any) -> None:
    tip = browser.find_element("id", "tip")
    browser.execute_script("document.querySelector('#heat-kl td[tabindex=\"0\"]').focus()")
    assert "core bilstm" in tip.text
    browser.switch_to.active_element.send_keys("\ue014\ue015\ue015\ue015")  # right, down three times
    place = browser.switch_to.active_element
    assert (place.get_attribute("data-down"), place.get_attribute("data-across")) == ("3", "1")
    assert {"core efficientnet", "first conv", "recipe autosome", "final mlp"} <= set(tip.text.splitlines())
    assert place.get_attribute("aria-describedby") == "tip"
    place.send_keys("\ue012\ue012\ue012")  # left, to the edge and no further
    assert browser.switch_to.active_element.get_attribute("data-across") == "0"
    stops = browser.execute_script("return document.querySelectorAll('#heat-kl td[tabindex=\"0\"]').length")
    assert stops == 1
    browser.switch_to.active_element.send_keys("\ue004")  # Tab leaves the map
    assert browser.execute_script("return document.activeElement.closest('#heat-kl')") is None
    assert not tip.is_displayed()


def test_wide_things_scroll_in_their_box_on_a_phone(browser: Any) -> None:
    resize(browser, 390, 844)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("window.scrollTo(500, 0); return window.scrollX") == 0
    script = (
        "return [...document.querySelectorAll('.box, .drawn')].map((b) => [b.scrollWidth > b.clientWidth, b.tabIndex])"
    )
    boxes = browser.execute_script(script)
    assert [True, 0] in boxes  # by keyboard, too
    last = browser.find_elements("css selector", "#heat-pearson_r td[data-details]")[8]
    browser.execute_script("arguments[0].scrollIntoView({inline: 'end', block: 'center'}); arguments[0].click()", last)
    tip = browser.find_element("id", "tip").rect
    assert 0 <= tip["x"] <= tip["x"] + tip["width"] <= 390


def test_paper_gets_all_of_it_in_black_on_white(browser: Any) -> None:
    script = """
        window.opened = 0;
        window.addEventListener("beforeprint", () => {
            window.opened = document.querySelectorAll("details[open]").length;
        });
    """
    browser.execute_script(script)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert browser.execute_script("return window.opened") == 2
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0  # folded again
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    look = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    assert browser.execute_script(look) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert not browser.find_element("id", "filters").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_page_cannot_reach_the_network(driver: Any, report: Path) -> None:
    driver.get(report.as_uri())
    script = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('open'), () => done('shut'))"
    assert driver.execute_async_script(script) == "shut"
    messages = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert "Content Security Policy" in messages
    requests(driver)
