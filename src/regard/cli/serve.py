"""`regard serve`: translations over HTTP."""

import ipaddress
from typing import Annotated

import torch
import typer

from regard.cli.options import DeviceOption, JsonOption, ModelArgument, QuietOption, ThreadsOption, print_json, say
from regard.errors import MissingExtraError
from regard.serving.bounds import Bounds

DEFAULTS = Bounds()


def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 or :: is every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    max_texts: Annotated[int, typer.Option(min=1, help="Most texts in a request.")] = DEFAULTS.texts,
    max_characters: Annotated[int, typer.Option(min=1, help="Most characters of a text.")] = DEFAULTS.characters,
    max_bytes: Annotated[int, typer.Option(min=1, help="Most bytes of a request.")] = DEFAULTS.bytes,
    max_beam: Annotated[int, typer.Option(min=1, help="Widest beam that a request may ask for.")] = DEFAULTS.beam,
    queue: Annotated[int, typer.Option(min=1, help="Most texts that wait; more are refused.")] = DEFAULTS.queue,
    seconds: Annotated[float, typer.Option(help="Most time for a request, its wait included.")] = DEFAULTS.seconds,
    batch: Annotated[int, typer.Option(min=1, help="Texts of several requests translated together.")] = DEFAULTS.batch,
    wait_ms: Annotated[
        float,
        typer.Option(
            min=0, help="Milliseconds that a request waits for others to be translated with it, if the model is idle."
        ),
    ] = 1000 * DEFAULTS.wait,
    connections: Annotated[
        int, typer.Option(min=1, help="Most open connections; with more, requests are refused.")
    ] = DEFAULTS.connections,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Serve a model over HTTP until Ctrl-C or SIGTERM; requests that have come in are still answered then.

        regard serve runs/en-de

        curl localhost:8000/translate --json '{"texts": ["Two dogs play."]}'

    POST /translate takes texts, and if wanted beam, nbest and scores; GET /health says whether requests are answered,
    GET /info what model this is, /openapi.json describes it all. Requests that wait are translated together. There is
    no encryption and no password: for other machines put a reverse proxy in front, see docs/serving.md.

    --json prints an object with the url as soon as requests are answered. Needs the extra `serve`.
    """
    try:
        from regard.serving.server import serve_model
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise MissingExtraError('serving needs an extra: pip install "regard[serve]"') from error
    bounds = Bounds(
        texts=max_texts,
        characters=max_characters,
        bytes=max_bytes,
        beam=max_beam,
        queue=queue,
        seconds=seconds,
        batch=batch,
        wait=wait_ms / 1000,
        connections=connections,
    )
    if threads is not None:
        torch.set_num_threads(threads)
    if not _is_local(host):
        say(f"warning: --host {host}: whoever reaches this machine there can use the model; nothing asks who they are")

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "model": str(model)})
        say(f"serving {model} at {url}; Ctrl-C ends it", quiet)

    serve_model(model, host=host, port=port, bounds=bounds, device=device, ready=ready)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
