"""`prixfixe serve`: a client that follows the specification of GAME 1.0, and one that does not."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from conftest import random_strings
from fastapi.testclient import TestClient
from small_runs import small_binary_run, small_run

import prixfixe
from prixfixe.cli import main
from prixfixe.commands.serve import cell_types
from prixfixe.common.errors import InputError
from prixfixe.data.flanks import Construct
from prixfixe.inference.game import Limits, Served, Window
from prixfixe.inference.predictor import Predictor
from prixfixe.inference.serve import make_app

LEFT, RIGHT = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT"
CONSTRUCT = Construct(LEFT, RIGHT, 80, (0.25, 0.25, 0.25, 0.25))
INSERTS = random_strings(5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = small_run(tmp_path_factory.mktemp("runs") / "one", construct=CONSTRUCT)
    return prixfixe.load(run, device="cpu")


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return prixfixe.load(small_run(tmp_path_factory.mktemp("runs") / "two", ("Dev", "Hk")), device="cpu")


def served(model: Predictor, *cells: str, **facts: Any) -> Served:
    return Served(model, "Yeast", cell_types(model, list(cells)), **facts)


@pytest.fixture
def client(model: Predictor) -> Iterator[TestClient]:
    with TestClient(make_app(served(model, "yeast", species="s_cerevisiae", log_base="2"))) as client:
        yield client


def body(sequences: dict[str, str], **changes: Any) -> dict[str, Any]:
    task = {"name": "t1", "type": "expression", "cell_type": "yeast", "species": "s_cerevisiae"}
    return {"readout": "point", "prediction_tasks": [task], "sequences": sequences, **changes}


def asked(sequences: dict[str, str], **task: Any) -> dict[str, Any]:
    whole = body(sequences)
    whole["prediction_tasks"] = [{**whole["prediction_tasks"][0], **task}]
    return whole


def numbers(response: Any, task: int = 0) -> list[float]:
    assert response.status_code == 200, response.text
    return list(response.json()["prediction_tasks"][task]["predictions"].values())


NAMED = {f"s{row}": insert for row, insert in enumerate(INSERTS)}


def test_formats_and_help_are_what_the_specification_says(client: TestClient) -> None:
    formats = client.get("/formats").json()
    for what in ("request", "response"):
        assert formats[f"predictor_supported_{what}_formats"] == ["application/json", "application/msgpack"]
    about = client.get("/help").json()
    expected = {"model", "game_schema_version", "publication", "features", "cell_types", "species", "input_size"}
    assert expected | {"container_authors", "model_authors", "bin_size", "expression_strand_specific"} <= about.keys()
    assert about["game_schema_version"] == "1.0" and about["input_size"] == 80 and about["cell_types"] == ["yeast"]
    assert about["model"].startswith("SIMULATED")
    assert msgpack.unpackb(client.get("/help", headers={"Accept": "application/msgpack"}).content) == about


def test_predictions_are_those_of_the_model_with_its_construct_around(client: TestClient, model: Predictor) -> None:
    response = client.post("/predict", json=body(NAMED))
    content = response.json()
    wanted = model.predict([LEFT + insert + RIGHT for insert in INSERTS])
    np.testing.assert_allclose(numbers(response), wanted, rtol=1e-6)
    assert content["predictor_name"] == "Yeast-SIMULATED_dev"
    (task,) = content["prediction_tasks"]
    assert (task["type_requested"], task["type_actual"]) == ("expression", ["expression"])
    assert list(task["predictions"]) == list(NAMED)
    assert task["scale_prediction_requested"] is None and task["scale_prediction_actual"] == "log"
    already = client.post("/predict", json=body({key: LEFT + text + RIGHT for key, text in NAMED.items()}))
    np.testing.assert_allclose(numbers(already), wanted, rtol=1e-6)


def test_scales_are_of_the_declared_logarithm(client: TestClient, model: Predictor) -> None:
    log = numbers(client.post("/predict", json=asked(NAMED, scale="log")))
    linear = client.post("/predict", json=asked(NAMED, scale="linear"))
    np.testing.assert_allclose(numbers(linear), 2 ** np.array(log))
    assert linear.json()["prediction_tasks"][0]["scale_prediction_actual"] == "linear"
    with TestClient(make_app(served(model))) as other:
        assert other.post("/predict", json=asked(NAMED, scale="log")).status_code == 422
        np.testing.assert_allclose(numbers(other.post("/predict", json=asked(NAMED, scale="linear"))), log)


def test_messagepack_both_ways(client: TestClient) -> None:
    headers = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    response = client.post("/predict", content=msgpack.packb(body(NAMED)), headers=headers)
    assert response.headers["content-type"] == "application/msgpack"
    assert msgpack.unpackb(response.content) == client.post("/predict", json=body(NAMED)).json()


def test_flanks_fill_and_ranges_place_the_window() -> None:
    window = Window("AA", "CC", insert=10, room=12)
    up, down = "GGGGT", "TGGGG"
    assert window.of_sequence("ACACAC", up, down, []) == "AA" + "GT" + "ACACAC" + "TG" + "CC"
    assert window.of_sequence("ACACAC", "T", down, []) == "AA" + "T" + "ACACAC" + "TGG" + "CC"
    assert window.of_sequence("ACACAC", "", "", []) == "AAACACACCC"
    assert window.of_sequence("ACACACACACAC", up, down, []) == "AA" + "ACACACACACAC" + "CC"  # between insert and room
    long = "A" * 10 + "GGGGGGGGGGGG" + "T" * 10
    assert window.of_sequence(long, up, down, []) == "AA" + "G" * 12 + "CC"
    assert window.of_sequence(long, up, down, [0, 3]) == "AA" + "A" * 10 + "GG" + "CC"  # stays inside
    assert window.of_sequence(long, up, down, [16, 17]) == "AA" + "G" * 11 + "T" + "CC"


def test_requested_ranges_and_flanks_reach_the_model(client: TestClient, model: Predictor) -> None:
    long = random_strings(1, 200)[0]
    ranges = {"a": [100, 119], "b": []}
    response = client.post("/predict", json=body({"a": long, "b": INSERTS[0][:60]}, prediction_ranges=ranges))
    wanted = [LEFT + long[70:150] + RIGHT, LEFT + INSERTS[0][:60] + RIGHT]
    np.testing.assert_allclose(numbers(response), model.predict(wanted), rtol=1e-6)
    flanks = {"upstream_seq": "CCCCAAAAAAAAAA", "downstream_seq": "GGGGGGGGGGCCCC"}
    response = client.post("/predict", json=body({"b": INSERTS[0][:60]}, **flanks))
    wanted = [LEFT + "A" * 10 + INSERTS[0][:60] + "G" * 10 + RIGHT]
    np.testing.assert_allclose(numbers(response), model.predict(wanted), rtol=1e-6)


def test_tasks_are_chosen_by_name_or_cell_type(two_tasks: Predictor) -> None:
    wanted = two_tasks.predict(INSERTS)
    with TestClient(make_app(served(two_tasks, "Dev=S2", "Hk=OSC"))) as client:
        for task, column in (({"name": "hk"}, 1), ({"cell_type": "s2"}, 0), ({"cell_type": "OSC"}, 1)):
            response = client.post("/predict", json=asked(NAMED, **task))
            np.testing.assert_allclose(numbers(response), wanted[:, column], rtol=1e-6)
            assert response.json()["prediction_tasks"][0]["cell_type_actual"] == ("S2", "OSC")[column]
        refused = client.post("/predict", json=asked(NAMED, cell_type="K562"))
        assert refused.status_code == 422 and "Dev, Hk" in refused.text
    with pytest.raises(InputError, match="the model's tasks are Dev, Hk"):
        cell_types(two_tasks, ["other=K562"])


def test_binary_gives_probabilities(tmp_path: Path) -> None:
    model = prixfixe.load(small_binary_run(tmp_path / "run"), device="cpu")
    with TestClient(make_app(served(model))) as client:
        found = numbers(client.post("/predict", json=body({"a": "ACGT" * 10})))
    assert found == pytest.approx(model.predict(["ACGT" * 10]).tolist(), rel=1e-6) and 0 < found[0] < 1


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "letters": (body({"a": "ACGU"}), 400, "only A, C, G, T and N"),
    "empty": (body({"a": ""}), 400, "is empty"),
    "no sequences": (body({}), 400, "sequences"),
    "no readout": ({key: value for key, value in body(NAMED).items() if key != "readout"}, 400, "has no readout"),
    "strange readout": (body(NAMED, readout="line"), 400, "readout"),
    "track": (body(NAMED, readout="track"), 422, "readout track"),
    "no tasks": (body(NAMED, prediction_tasks=[]), 400, "prediction_tasks"),
    "a number for text": (asked(NAMED, cell_type=3), 400, "cell_type"),
    "type": (asked(NAMED, type="accessibility"), 422, "predicts expression"),
    "species": (asked(NAMED, species="homo_sapiens"), 422, "s_cerevisiae"),
    "scale": (asked(NAMED, scale="cubic"), 400, "scale"),
    "ids of ranges": (body(NAMED, prediction_ranges={"s0": [0, 1]}), 400, "the ids"),
    "beyond the end": (body({"a": "ACGT"}, prediction_ranges={"a": [0, 4]}), 400, "0-based"),
    "backwards": (body({"a": "ACGT"}, prediction_ranges={"a": [3, 1]}), 400, "0-based"),
    "three ends": (body({"a": "ACGT"}, prediction_ranges={"a": [1, 2, 3]}), 400, "prediction_ranges"),
    "flank": (body(NAMED, upstream_seq="AC-GT"), 400, "upstream_seq"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_its_error_as_json(client: TestClient, case: str) -> None:
    content, status, words = WRONG[case]
    response = client.post("/predict", json=content)
    assert response.status_code == status, response.text
    assert_error(response, {400: "bad_prediction_request", 422: "prediction_request_failed"}[status], words)


def assert_error(response: Any, key: str, words: str) -> None:
    found = response.json()
    assert found.keys() == {"predictor_name", "error"} and found["error"]
    assert all(error.keys() == {key} for error in found["error"])
    assert words in found["error"][0][key], found


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"{", "application/json", "is no application/json"),
        (b"[" * 100_000, "application/json", "is no application/json"),
        (b'{"readout": NaN}', "application/json", "NaN"),
        (b'{"sequences": {"a": "A", "a": "C"}}', "application/json", "comes twice"),
        (b"\xc1", "application/msgpack", "is no application/msgpack"),
        (b"\x81" * 5000, "application/msgpack", "is no application/msgpack"),
        (b"[]", "application/json", "schema"),
        (b"{}", "text/plain", "Content-Type"),
        (b"\xff\xfe", "application/json", "is no application/json"),
    ],
)
def test_what_cannot_be_read_is_a_bad_request(client: TestClient, content: bytes, kind: str, words: str) -> None:
    response = client.post("/predict", content=content, headers={"Content-Type": kind})
    assert response.status_code == 400
    assert_error(response, "bad_prediction_request", words)


def test_requests_are_bounded(model: Predictor) -> None:
    one = served(model)
    for limits, words in (
        (Limits(bytes=100), "larger than 100 bytes"),
        (Limits(sequences=3), "at most 3"),
        (Limits(letters=100), "at most 100"),
    ):
        with TestClient(make_app(replace(one, limits=limits))) as client:
            response = client.post("/predict", json=body(NAMED))
            chunked = client.post(
                "/predict",
                content=iter([json.dumps(body(NAMED)).encode()]),
                headers={"Content-Type": "application/json"},
            )
        for answer in (response, chunked):
            assert answer.status_code == 400
            assert_error(answer, "bad_prediction_request", words)
    with TestClient(make_app(replace(one, limits=Limits(seconds=0)))) as client:
        response = client.post("/predict", json=body(NAMED))
        assert response.status_code == 422
        assert_error(response, "prediction_request_failed", "more than 0 s")


def test_a_failure_inside_is_a_server_error_without_a_trace(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("prixfixe.inference.game._predict", broken)
    response = client.post("/predict", json=body(NAMED))
    assert response.status_code == 500 and "secret" not in response.text
    assert_error(response, "server_error", "RuntimeError")


def test_a_failure_of_the_model_names_no_folder(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    with torch.no_grad():
        weight = next(model.network.final.parameters())
        kept = weight.clone()
        weight.fill_(math.nan)
    response = client.post("/predict", json=body(NAMED))
    with torch.no_grad():
        weight.copy_(kept)
    assert response.status_code == 422 and model.name not in response.text
    assert_error(response, "prediction_request_failed", "Yeast predicts values that are not finite")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error_and_never_a_number(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr("prixfixe.inference.game._predict", lambda *_: np.full((len(NAMED), 1), value))
    response = client.post("/predict", json=asked(NAMED, scale="log"))
    assert response.status_code in (422, 500) and "error" in response.json()


def test_another_page_is_an_error_as_json(client: TestClient) -> None:
    for response in (client.get("/nothing"), client.get("/predict"), client.get("/docs"), client.get("/openapi.json")):
        assert response.status_code in (404, 405)
        assert_error(response, "bad_prediction_request", "GET /help")


def test_help_answers_while_predictions_are_made(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Any, strings: list[str], __: Any) -> np.ndarray:
        begun.set()
        assert go_on.wait(20)
        return np.zeros((len(strings), 1))

    monkeypatch.setattr("prixfixe.inference.game._predict", slow)
    limits = Limits(waiting=1)
    with TestClient(make_app(served(model, limits=limits))) as client:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(client.post("/predict", json=body(NAMED))))
        thread.start()
        assert begun.wait(20)
        assert client.get("/help").status_code == 200 and not answers
        busy = client.post("/predict", json=body(NAMED))
        assert busy.status_code == 500
        assert_error(busy, "server_error", "waiting already")
        go_on.set()
        thread.join(20)
    assert numbers(answers[0]) == [0.0] * len(NAMED)


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run")
    command = [sys.executable, "-m", "prixfixe", "serve", str(run), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " listens on http://127.0.0.1:" in line, line
        where = line.split(" listens on ")[1].split()[0]
        with urllib.request.urlopen(f"{where}/help", timeout=30) as response:
            assert json.load(response)["simulated"] is True
        data = json.dumps(body(NAMED)).encode()
        request = urllib.request.Request(f"{where}/predict", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            found = json.load(response)["prediction_tasks"][0]["predictions"]
        port = where.rpartition(":")[2]
        assert main(["serve", str(run), "--port", port]) == 2 and "cannot listen there" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(20) in (0, 130) and time.monotonic() - began < 10
        assert "Traceback" not in process.stderr.read()
    np.testing.assert_allclose(list(found.values()), prixfixe.load(run, device="cpu").predict(INSERTS), rtol=1e-6)


def test_a_model_that_needs_columns_is_not_served(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "needs", ("gc",))
    with pytest.raises(InputError, match="needs the columns gc"):
        make_app(served(model))


def test_a_construct_said_once_is_stripped_once(tmp_path: Path) -> None:
    left, right, insert = "TGCATTTTTTTCACATC", "GGTTACGGCTGTT", "ACGTTGCAAT" * 8
    built = Construct(left, right, 80, (0.25,) * 4)
    model = prixfixe.load(small_run(tmp_path / "run", construct=built, flanks=[left, right]), device="cpu")
    window = Window.of(model)
    assert model.flanks == (left, right)
    assert window.of_sequence(f"{left}{insert}{right}", "", "", []) == window.of_sequence(insert, "", "", []) == insert
    with pytest.raises(InputError, match="log_base"):
        model.serve(log_base="3")
