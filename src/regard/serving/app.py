"""The HTTP API: POST /translate, GET /health, GET /info; errors are JSON with one message."""

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regard.errors import RegardError
from regard.runs.streaming import Answer
from regard.serving.batching import Batcher, QueueFullError, StoppedError
from regard.serving.bounds import Bounds

RETRY_SECONDS = 1  # when a refused client may try again: a batch takes about that long
LOOK_SECONDS = 0.2  # how often to see whether a client that waits is still there
GONE = 499  # the status, as nginx calls it, of an answer that nobody reads

ENDING = "nothing is translated any more: the server is ending, or has failed"

log = logging.getLogger("regard.serving")


@dataclass(frozen=True)
class Options:
    """How a request wants its texts translated; those with the same options are translated together."""

    beam: int
    nbest: int


class Candidate(BaseModel):
    """One of the best translations of a text."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    text: str
    score: float
    """Log-probability after the length penalty."""


class TranslationReply(BaseModel):
    """What became of one text."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    text: str | None
    """The best translation; null where there is an error."""
    score: float | None = None
    """If asked for: log-probability after the length penalty."""
    nbest: list[Candidate] | None = None
    """If asked for: the best translations, best first."""
    error: str | None = None
    """Why this text could not be translated."""


class Reply(BaseModel):
    """The answer to a request."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    translations: list[TranslationReply]
    """One for each text, in order."""


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    error: str
    field: str | None = None
    """The field of the request that is wrong."""


class Refused(Exception):
    """A request can't be answered: status, message, the field that is wrong."""

    def __init__(self, status: int, message: str, field: str | None = None, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.retry = status, message, field, retry


def create_app(batcher: Batcher[Options, Answer], beam: int, facts: dict[str, Any], bounds: Bounds) -> FastAPI:
    """The web application around a model.

    Args:
        batcher: answers; started and closed with the application.
        beam: width of the beam where a request doesn't say.
        facts: what GET /info tells.
        bounds: limits of requests.

    Whoever ends the application may set its `state.end_by`, a time of `time.monotonic`: until then, and for
    `bounds.seconds` at most, it waits for what is being translated.
    """

    class Question(BaseModel):
        """A request for translations."""

        model_config = ConfigDict(extra="forbid", strict=True)
        texts: Annotated[
            list[Annotated[str, AfterValidator(_unicode)]],
            Field(max_length=bounds.texts, description="what to translate"),
        ]
        beam: Annotated[
            int | None, Field(ge=1, le=bounds.beam, description="width of the beam, 1 for greedy; else the model's own")
        ] = None
        nbest: Annotated[
            int | None, Field(ge=1, description="give the best translations, so many; at most the beam")
        ] = None
        scores: Annotated[bool, Field(description="give scores")] = False

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.end_by = math.inf
        batcher.start()
        yield
        await asyncio.to_thread(batcher.close, min(bounds.seconds, max(0.0, app.state.end_by - time.monotonic())))

    # The page at /docs would load scripts from elsewhere, so there is none; /openapi.json is what it would show.
    app = FastAPI(title="regard", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(BodyLimit, bounds=bounds)
    _add_handlers(app)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": what}
        for status, what in (
            (408, "the body did not arrive in time"),
            (413, "the body is too large"),
            (422, "a field is wrong; `field` names it"),
            (503, "too many texts wait, Retry-After says when to try again; or the server is ending"),
            (504, "it took too long"),
        )
    }

    @app.post("/translate", response_model_exclude_unset=True, responses=refusals)
    async def translate(question: Question, request: Request) -> Reply:
        """Translate texts, each on its own."""
        options = Options(question.beam or beam, question.nbest or 1)
        if options.nbest > options.beam:
            raise Refused(422, f"nbest: {options.nbest} is more than the beam of {options.beam}", "nbest")
        fit = [text for text in question.texts if len(text) <= bounds.characters]
        found = iter(await _answers(batcher, fit, options, bounds.seconds, request.is_disconnected))
        replies = [
            _reply(next(found), question.scores, question.nbest is not None)
            if len(text) <= bounds.characters
            else TranslationReply(text=None, error=f"has {len(text)} characters; at most {bounds.characters} are taken")
            for text in question.texts
        ]
        return Reply(translations=replies)

    @app.get("/health", responses={503: {"model": Problem}})
    async def health() -> dict[str, Any]:
        """Whether requests are answered, and how many texts wait."""
        if not batcher.running:
            raise Refused(503, ENDING)
        return {"status": "ok", "waiting": batcher.waiting()}

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """The model, and the limits of requests."""
        return facts

    return app


def _unicode(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can say with \\ud800 but which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not Unicode text, it has half of a surrogate pair") from None
    return text


async def _answers(
    batcher: Batcher[Options, Answer],
    texts: Sequence[str],
    options: Options,
    seconds: float,
    gone: Callable[[], Awaitable[bool]],
) -> list[Answer]:
    if not texts:
        return []
    try:
        future = batcher.submit(texts, options)
    except QueueFullError:
        raise Refused(503, "too many texts wait to be translated; try again later", retry=RETRY_SECONDS) from None
    except StoppedError:
        raise Refused(503, ENDING) from None
    try:
        async with asyncio.timeout(seconds):
            return await _answered(future, gone)
    except TimeoutError:
        raise Refused(504, f"not translated within {seconds:g} seconds", retry=RETRY_SECONDS) from None
    except StoppedError:
        raise Refused(503, ENDING) from None
    except Refused:
        raise
    except RegardError as error:
        raise Refused(422, str(error)) from error
    except Exception as error:
        log.exception("the model failed")
        raise Refused(500, f"the model failed: {type(error).__name__}") from error


async def _answered(future: Future[list[Answer]], gone: Callable[[], Awaitable[bool]]) -> list[Answer]:
    """The answers; a request that is given up, or whose client has left, leaves the queue if it still waits there."""
    answers = asyncio.wrap_future(future)
    try:
        while True:
            done, _ = await asyncio.wait([answers], timeout=LOOK_SECONDS)
            if done:
                return answers.result()
            if await gone():
                raise Refused(GONE, "the client has left")
    finally:
        answers.cancel()  # nothing, once there is an answer


def _reply(answer: Answer, scores: bool, nbest: bool) -> TranslationReply:
    if answer.problem is not None:
        return TranslationReply(text=None, error=answer.problem)
    best = answer.translations[0]
    given: dict[str, Any] = {"text": best.text}
    if scores:
        given["score"] = best.score
    if nbest:
        given["nbest"] = [Candidate(text=one.text, score=one.score) for one in answer.translations]
    return TranslationReply(**given)


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _problem(error.status, error.message, error.field, error.retry)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        if first["type"] == "json_invalid":
            return _problem(422, f"the body is not JSON: {first['ctx']['error']} at character {field}")
        if not field:
            return _problem(422, 'the body should be JSON such as {"texts": ["…"]}, with Content-Type application/json')
        return _problem(422, f"{field}: {first['msg'].removeprefix('Value error, ')}", field)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400 and error.__cause__ is not None:  # FastAPI's, of a body that it can't parse
            return _problem(422, f"the body is not JSON that can be read: {_unreadable(error.__cause__)}")
        return _problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, f"the server failed: {type(error).__name__}")


def _unreadable(error: BaseException) -> str:
    """Why a body could not be parsed, where it isn't the syntax of JSON."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not {error.encoding}"
    return str(error).partition(";")[0] or type(error).__name__


def _problem(status: int, message: str, field: str | None = None, retry: int | None = None) -> JSONResponse:
    content = {"error": message} if field is None else {"error": message, "field": field}
    return JSONResponse(content, status, headers={} if retry is None else {"Retry-After": str(retry)})


class BodyLimit:
    """Middleware that reads the body of a request before anything else does: not too much, and not for too long."""

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        self._app, self._bounds = app, bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 413 or 408, or go on with the whole body at hand."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._bounds.bytes
        announced = int(dict(scope["headers"]).get(b"content-length", b"0"))  # h11 has seen that it is a number
        body = bytearray()
        more = announced <= most
        try:
            async with asyncio.timeout(self._bounds.seconds):
                while more and len(body) <= most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            await _refuse(send, 408, f"the body did not arrive within {self._bounds.seconds:g} seconds")
            return
        if announced > most or len(body) > most:
            await _refuse(send, 413, f"the body is larger than {most} bytes")
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)


async def _refuse(send: Send, status: int, message: str) -> None:
    """Answer, and end the connection: the rest of the body has not been read."""
    content = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
