"""A GAME 1.0 predictor over HTTP: GET /formats, GET /help, POST /predict; see `prixfixe.inference.game`.

The event loop only reads and writes; one worker thread does all that takes time, so that /help answers meanwhile.
Errors are JSON, `{"predictor_name": ..., "error": [{KEY: message}]}`: 400 bad_prediction_request, 422
prediction_request_failed, 500 server_error.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import msgpack
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from prixfixe.common.errors import InputError
from prixfixe.common.text import printable
from prixfixe.inference.game import JSON, KEYS, MSGPACK, PACKED, RefusedError, Served, answer, help_of, predictor_name


def make_app(served: Served) -> FastAPI:
    """The web application of a model. InputError where it needs more than sequences."""
    if served.model.needs:
        raise InputError(
            f"{served.model.name} needs the columns {', '.join(served.model.needs)} beside the sequences, which GAME "
            "has no place for: it cannot be served"
        )
    served.model.members[0].predicted  # noqa: B018 - InputError of a task that predicts nothing a sequence
    worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
    name, about = predictor_name(served), help_of(served)
    waiting, stopped = 0, threading.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        stopped.set()
        worker.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    def failed(status: int, *messages: str, key: str | None = None) -> Response:
        errors = [{key or KEYS[status]: printable(message)} for message in messages]
        return _encoded({"predictor_name": name, "error": errors}, JSON, status)

    @app.get("/formats")
    async def formats() -> Response:
        both = [JSON, MSGPACK]
        names = ("predictor_supported_request_formats", "predictor_supported_response_formats")
        return _encoded({"predictor_name": name, **dict.fromkeys(names, both)}, JSON)

    @app.get("/help")
    async def help(request: Request) -> Response:
        return _encoded(about, _wanted(request))

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        nonlocal waiting
        deadline = time.monotonic() + served.limits.seconds

        def go_on() -> None:
            if stopped.is_set() or time.monotonic() > deadline:
                raise TimeoutError

        try:
            if waiting >= served.limits.waiting:
                raise RefusedError(500, f"{waiting} requests are waiting already: try again later")
            waiting += 1
            try:
                body = await asyncio.wait_for(_body(request, served.limits.bytes), served.limits.seconds)
                work = asyncio.get_running_loop().run_in_executor(
                    worker, answer, served, name, body, request.headers.get("content-type", JSON), go_on
                )
                found = await asyncio.wait_for(work, max(deadline - time.monotonic(), 0.01) + 1)
            finally:
                waiting -= 1
            return _encoded(found, _wanted(request))
        except RefusedError as error:
            return failed(error.status, *error.messages)
        except TimeoutError:
            return failed(422, f"the request took more than {served.limits.seconds:g} s: ask for fewer sequences")
        except InputError as error:
            words = str(error)
            for one in (served.model, *served.model.members):  # whose names are folders of this machine
                words = words.replace(one.name, served.name)
            return failed(422, words)
        except Exception as error:  # whatever else: the server goes on
            print(f"prixfixe serve: {type(error).__name__}: {printable(error, 500)}", file=sys.stderr)
            return failed(500, f"{type(error).__name__} while predicting; the server's log says more")

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}: there are GET /formats, GET /help and POST /predict"
        return failed(error.status_code, what, key=KEYS[400])

    return app


async def _body(request: Request, limit: int) -> bytes:
    too_large = RefusedError(400, f"the request is larger than {limit:,} bytes: send the sequences in several")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _wanted(request: Request) -> str:
    """The format of a response: JSON, unless MessagePack is asked for first."""
    for part in request.headers.get("accept", "").lower().split(","):
        kind = part.partition(";")[0].strip()
        if kind in PACKED:
            return MSGPACK
        if kind in (JSON, "*/*", "application/*"):
            return JSON
    return JSON


def _encoded(content: Any, kind: str, status: int = 200) -> Response:
    body = msgpack.packb(content) if kind == MSGPACK else json.dumps(content, allow_nan=False).encode()
    return Response(body, status, media_type=kind)


def serve(served: Served, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves a model until Ctrl-C, which raises KeyboardInterrupt once all is closed. port: 0 is any that is free.

    Raises InputError where the model cannot be served, and where the address is not to be had.
    """
    import socket

    import uvicorn

    app = make_app(served)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--host {printable(host, 100)} --port {port}: cannot listen there ({error.strerror}); choose another "
            "port, or 0 for any that is free"
        ) from error
    where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"{predictor_name(served)} listens on {where} (Ctrl-C ends it)", file=sys.stderr, flush=True)
    limits: dict[str, Any] = {"limit_concurrency": 100, "timeout_keep_alive": 5, "timeout_graceful_shutdown": 5}
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, **limits)).run(sockets=[listening])
