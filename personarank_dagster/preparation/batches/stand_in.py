"""Files and batches of the stand-in: a batch is done when it was asked for `polls` times."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# The status and the body of the reply to one row; None: the batch expired before.
Answer = Callable[[Mapping[str, Any]], "tuple[int, Any] | None"]


@dataclass
class Desk:
    """Takes files and batches."""

    answer: Answer
    polls: int = 1
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """Its part of the protocol."""
        return [
            Route("/v1/files", self._upload, methods=["POST"]),
            Route("/v1/files/{file}/content", self._content),
            Route("/v1/batches", self._create, methods=["POST"]),
            Route("/v1/batches", self._list),
            Route("/v1/batches/{batch}", self._batch),
        ]

    async def _upload(self, request: Request) -> Response:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = message_from_bytes(head + await request.body()).walk()
        content = next(part.get_payload(decode=True) for part in parts if part.get_filename())
        return JSONResponse({"id": self._add(bytes(content)), "object": "file"})

    async def _content(self, request: Request) -> Response:
        return Response(self.files[request.path_params["file"]])

    async def _create(self, request: Request) -> Response:
        wanted = json.loads(await request.body())
        batch = {"id": f"batch-{len(self.batches)}", "status": "in_progress", **wanted}
        self.batches[batch["id"]] = batch
        return JSONResponse(batch)

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [*self.batches.values()]})

    async def _batch(self, request: Request) -> Response:
        batch = self.batches[request.path_params["batch"]]
        asked = self._asked[batch["id"]] = self._asked.get(batch["id"], 0) + 1
        if batch["status"] == "in_progress" and asked > self.polls:
            batch |= self._done(self.files[batch["input_file_id"]])
        return JSONResponse(batch)

    def _done(self, content: bytes) -> dict[str, Any]:
        replies: dict[bool, list[str]] = {True: [], False: []}
        rows = [json.loads(line) for line in content.splitlines()]
        answers = [self.answer(row["body"]) for row in rows]
        for row, answer in zip(rows, answers, strict=True):
            if answer is not None:
                response = {"status_code": answer[0], "body": answer[1]}
                replies[answer[0] == 200].append(json.dumps({"custom_id": row["custom_id"], "response": response}))
        output, errors = ("\n".join(replies[good]) for good in (True, False))
        files = {
            "output_file_id": self._add(output.encode()) if output else None,
            "error_file_id": self._add(errors.encode()) if errors else None,
        }
        return {"status": "expired" if None in answers else "completed", **files}

    def _add(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name
