import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGTERM
from typing import Any

import numpy as np
import pytest
import torch

from prixfixe.common.errors import InputError, InterruptedRunError
from prixfixe.runs.folder import RunFolder
from prixfixe.runs.log import NoLog, append_line, open_log
from prixfixe.runs.loggers import Logger


class Recording(Logger):
    """Keeps what it was told; fails in the methods that it is told to fail in."""

    calls: list[tuple[str, Any]]
    latest: "Recording"

    def __init__(self, *, fails_in: list[str], error: str = "RuntimeError") -> None:
        self.fails_in, self.error, self.calls = fails_in, error, []
        Recording.latest = self

    def note(self, method: str, value: Any) -> None:
        self.calls.append((method, value))
        if method in self.fails_in:
            raise {"RuntimeError": RuntimeError, "InputError": InputError, "ImportError": ImportError}[self.error](
                "no route to host"
            )

    def open(self, folder: RunFolder, sweep: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self.note("open", (folder.name, sweep, dict(parameters)))
        return {"run": "r1"}

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        self.note("scores", (step, dict(values)))

    def close(self, *, failed: bool) -> None:
        self.note("close", failed)

    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "demo" / "autosome+conv+bilstm+mlp")


def config(*fails_in: str, **values: Any) -> dict[str, Any]:
    node = {"_target_": f"{__name__}.Recording", "fails_in": list(fails_in), **values}
    return {"sweep": "demo", "seed": 0, "core": {"hidden": 320}, "logger": node}


PLAIN = {"sweep": "demo", "seed": 0, "logger": None}


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    """Every line of log.jsonl, read strictly: NaN is no JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in folder.log_file.read_text().splitlines()]


def test_events_are_lines_with_their_time(folder: RunFolder) -> None:
    with open_log(folder, PLAIN) as log:
        log.event("start", parameters=12)
        log.scores(7, {"epoch": 1, "loss": 0.5})
        assert [line["event"] for line in lines(folder)] == ["start", "epoch"]  # while it runs
    start, epoch, end = lines(folder)
    for line in (start, epoch, end):
        assert datetime.now(UTC) - timedelta(minutes=1) < datetime.fromisoformat(line.pop("time")) <= datetime.now(UTC)
    assert start == {"event": "start", "parameters": 12}
    assert epoch == {"event": "epoch", "step": 7, "epoch": 1, "loss": 0.5}
    assert end == {"event": "end", "state": "done"}
    assert [path.name for path in folder.path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (InterruptedRunError("interrupted by SIGTERM", SIGTERM), "interrupted by SIGTERM"),
    ],
    ids=["exception", "ctrl-c", "signal"],
)
def test_a_failure_is_logged_and_goes_on(folder: RunFolder, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)) as caught, open_log(folder, config()):
        raise error
    assert caught.value is error
    end = lines(folder)[-1]
    assert (end["event"], end["state"], end["reason"]) == ("end", "failed", reason)
    assert Recording.latest.calls[-1] == ("close", True)


def test_numbers_are_json(folder: RunFolder) -> None:
    values = {
        "nan": math.nan,
        "infinite": -math.inf,
        "float32": np.float32(0.5),
        "nan32": np.float32("nan"),
        "int64": np.int64(3),
        "tensor": torch.tensor(2.5),
        "array": np.array([1.0, math.nan]),
        "nested": {"tuple": (1, math.inf), "path": Path("runs")},
        "text": "Ü\n",
        "flag": True,
        "none": None,
    }
    with open_log(folder, PLAIN) as log:
        log.event("start", **values)
    line = lines(folder)[0]
    assert {key: line[key] for key in values} == {
        "nan": None,
        "infinite": None,
        "float32": 0.5,
        "nan32": None,
        "int64": 3,
        "tensor": 2.5,
        "array": [1.0, None],
        "nested": {"tuple": [1, None], "path": "runs"},
        "text": "Ü\n",
        "flag": True,
        "none": None,
    }


def test_a_resumed_run_goes_on_in_the_same_file(folder: RunFolder) -> None:
    with pytest.raises(ValueError), open_log(folder, PLAIN) as log:
        log.scores(1, {"loss": 1.0})
        raise ValueError
    with open_log(folder, PLAIN) as log:
        log.scores(2, {"loss": 0.5})
    assert [(line["event"], line.get("step"), line.get("state")) for line in lines(folder)] == [
        ("epoch", 1, None),
        ("end", None, "failed"),
        ("epoch", 2, None),
        ("end", None, "done"),
    ]


def test_a_half_written_line_spoils_nothing(tmp_path: Path) -> None:
    """Cut at every byte of its last line, the file takes the next line and keeps all whole ones."""
    whole = [json.dumps({"event": "start", "name": "Ä"}), json.dumps({"event": "epoch", "step": 1})]
    text = "".join(f"{line}\n" for line in whole).encode()
    first = len(whole[0].encode()) + 1
    for cut in range(len(text) + 1):
        file = tmp_path / f"{cut}.jsonl"
        file.write_bytes(text[:cut])
        append_line(file, '{"event": "resume"}')
        kept = [] if cut < first else whole[:1] if cut < len(text) else whole
        assert file.read_text().splitlines() == [*kept, '{"event": "resume"}']


def test_zeros_at_the_end_after_a_power_failure_are_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"event": "start"}\n' + bytes(300))
    append_line(file, '{"event": "resume"}')
    assert file.read_text().splitlines() == ['{"event": "start"}', '{"event": "resume"}']


def test_a_log_that_cannot_be_written_stops_nothing(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.log_file.mkdir(parents=True)
    with open_log(folder, config()) as log:
        log.event("start")
        log.scores(1, {"loss": 1.0})
    assert capsys.readouterr().err.count("warning: ") == 1
    assert Recording.latest.methods() == ["open", "scores", "close"]


def test_the_logger_gets_the_flat_configuration_and_finite_scores(folder: RunFolder) -> None:
    with open_log(folder, config()) as log:
        log.event("start", parameters=3)
        log.scores(5, {"epoch": 1, "loss": torch.tensor(0.5), "pearson_r": math.nan, "device": "cpu", "kl": None})
    assert Recording.latest.calls == [
        ("open", ("autosome+conv+bilstm+mlp", "demo", {"sweep": "demo", "seed": 0, "core.hidden": 320})),
        ("scores", (5, {"epoch": 1.0, "loss": 0.5})),
        ("close", False),
    ]
    assert lines(folder)[0] == lines(folder)[0] | {"event": "logger", "logger": "Recording", "run": "r1"}


@pytest.mark.parametrize(
    ("fails_in", "called"),
    [
        (["open"], ["open", "close"]),
        (["scores"], ["open", "scores", "close"]),
        (["close"], ["open", "scores", "scores", "close"]),
        (["open", "close"], ["open", "close"]),
        (["scores", "close"], ["open", "scores", "close"]),
    ],
    ids="+".join,
)
def test_a_failing_logger_stops_nothing(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], fails_in: list[str], called: list[str]
) -> None:
    with open_log(folder, config(*fails_in)) as log:
        log.scores(1, {"loss": 1.0})
        log.scores(2, {"loss": 0.5})
    assert Recording.latest.methods() == called
    said = capsys.readouterr()
    assert said.err == "warning: Recording failed (RuntimeError: no route to host); the run goes on without it\n"
    assert said.out == ""
    events = [line["event"] for line in lines(folder)]
    assert events.count("epoch") == 2
    assert events.count("logger_failed") == 1
    assert [line["state"] for line in lines(folder) if line["event"] == "end"] == ["done"]


def test_a_failing_logger_does_not_hide_why_a_run_failed(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="the real reason"), open_log(folder, config("close")):
        raise ValueError("the real reason")


@pytest.mark.parametrize(
    ("error", "message"), [("InputError", "no route to host"), ("ImportError", "not installed .*no route to host")]
)
def test_what_the_user_must_mend_is_refused_at_the_start_alone(folder: RunFolder, error: str, message: str) -> None:
    with pytest.raises(InputError, match=message), open_log(folder, config("open", error=error)):
        pytest.fail("the run began")
    assert Recording.latest.methods() == ["open", "close"]
    with open_log(folder, config("scores", error=error)) as log:
        log.scores(1, {"loss": 1.0})  # after days of training it is refused no more
    assert lines(folder)[-1]["state"] == "done"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "prixfixe.runs.loggers.Tensorboard"}, "cannot be imported"),
        ({"_target_": "prixfixe.training.optim.OneCycle"}, "no subclass of prixfixe.runs.loggers.Logger"),
        ({"directory": None}, "no _target_"),
        ({"_target_": f"{__name__}.Recording"}, "logger.fails_in: Recording needs this value"),
        (
            {"_target_": f"{__name__}.Recording", "fails_in": [], "color": 1},
            "logger.color: Recording takes no such value",
        ),
        ({"_target_": f"{__name__}.Recording", "fails_in": 3}, "logger.fails_in=3"),
    ],
    ids=["misspelt", "no-logger", "no-target", "missing", "unknown", "type"],
)
def test_a_wrong_logger_is_refused(folder: RunFolder, node: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message), open_log(folder, {**PLAIN, "logger": node}):
        pytest.fail("the run began")


def test_the_log_of_nothing_takes_all_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = NoLog()
    log.event("start", parameters=1)
    log.scores(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
