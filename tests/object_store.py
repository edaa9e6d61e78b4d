"""A real S3 API on the loopback interface."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

BUCKET = "s3://bucket"


@contextmanager
def object_store() -> Iterator[str]:
    """Serve an empty bucket to this process and its children, and give its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    # Those of an earlier server keep its address.
    S3FileSystem.clear_instance_cache()
    # Servers of one process share their objects, so those of an earlier test go first.
    _ask("POST", f"{settings['AWS_ENDPOINT_URL']}/moto-api/reset")
    _ask("PUT", f"{settings['AWS_ENDPOINT_URL']}/bucket")
    try:
        yield BUCKET
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


def _ask(method: str, address: str) -> None:
    urllib.request.urlopen(urllib.request.Request(address, method=method)).close()
