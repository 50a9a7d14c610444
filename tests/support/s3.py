"""A local S3 server in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pyarrow.fs import FileSelector, FileSystem, FileType

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "us-east-1",
}
BUCKET = "results"

# Prints its address, and runs until its stdin is closed.
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.disable()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True)
class Store:
    """An S3 server with one bucket."""

    address: str

    def uri(self, prefix: str, bucket: str = BUCKET) -> str:
        """Return the URI of a prefix, as a command takes it."""
        return f"s3://{bucket}/{prefix}?endpoint_override={self.address}&scheme=http"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return name → content of all objects below a prefix."""
        files, root = FileSystem.from_uri(self.uri(prefix))
        found = files.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
        return {
            info.path.removeprefix(f"{root}/"): files.open_input_stream(info.path, compression=None).read()
            for info in found
            if info.type == FileType.File
        }

    def put(self, prefix: str, objects: dict[str, bytes]) -> None:
        """Replace all objects below a prefix."""
        files, root = FileSystem.from_uri(self.uri(prefix))
        files.delete_dir_contents(root, missing_dir_ok=True)
        for name, content in objects.items():
            with files.open_output_stream(f"{root}/{name}", compression=None) as stream:
                stream.write(content)


@contextmanager
def serving() -> Iterator[Store]:
    """Start a server with an empty bucket, and stop it at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            host, port = server.stdout.readline().split()
            store = Store(f"{host}:{port}")
            with pytest.MonkeyPatch.context() as variables:
                for name, value in CREDENTIALS.items():
                    variables.setenv(name, value)
                files, _ = FileSystem.from_uri(store.uri("").replace("?", "?allow_bucket_creation=true&"))
                files.create_dir(BUCKET)
                yield store
        finally:
            server.kill()
