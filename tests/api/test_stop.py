"""What a request is told that a stop of the cloud cuts off."""

import asyncio
import json
import threading
from typing import Any

import pytest

from kilonova.db.engine import Database
from kilonova.model.errors import Unavailable
from kilonova.web import faults
from kilonova.web.call import Call, Context, Route
from kilonova.web.router import Application
from kilonova.web.service import Service


def test_a_request_that_a_stop_cuts_off_is_told_so(database: Database) -> None:
    """The server cancels its task: that was a 500 with a stack trace in the log."""
    begun, end = threading.Event(), threading.Event()

    def wait(call: Call) -> None:
        begun.set()
        end.wait()

    service = Service("slow", {"GET /": Route(wait, "", tx="none")}, {}, faults.nova)
    application = Application([service], database, lambda _, token: Context(), None, "http://testserver")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def serve() -> None:
        scope = {"type": "http", "method": "GET", "path": "/slow/", "query_string": b"", "headers": [], "client": None}
        task = asyncio.create_task(application(scope, receive, send))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await task
        end.set()

    asyncio.run(serve())
    assert sent[0]["status"] == 503
    assert "look what became of it" in json.loads(sent[1]["body"])["serviceUnavailable"]["message"]


def test_an_upload_that_a_stop_cuts_off_logs_no_stack_trace(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """What its thread waits for is a task of its own, which the server's end cancels."""
    ended: list[Exception] = []
    over = threading.Event()

    def upload(call: Call) -> None:
        try:
            list(call.stream)
        except Exception as error:
            ended.append(error)
            over.set()
            raise

    service = Service("slow", {"PUT /": Route(upload, "", tx="none", body="stream")}, {}, faults.nova)
    application = Application([service], database, lambda _, token: Context(), None, "http://testserver")

    async def serve() -> None:
        waits = asyncio.Event()

        async def receive() -> Any:
            waits.set()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            pass

        scope = {"type": "http", "method": "PUT", "path": "/slow/", "query_string": b"", "headers": [], "client": None}
        task = asyncio.create_task(application(scope, receive, send))
        await waits.wait()
        task.cancel()
        await task

    asyncio.run(serve())
    assert over.wait(10)
    assert [type(error) for error in ended] == [Unavailable]
    assert [record for record in caplog.records if record.name == "asyncio"] == []
