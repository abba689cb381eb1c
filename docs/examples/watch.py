"""Watch a task from the command line: python docs/examples/watch.py TASK_ID [http://127.0.0.1:8000]

Comes back by itself when the connection is lost, and goes on after the last event it has seen.
"""

import asyncio
import json
import sys
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

WATCH = """
subscription Watch($id: ID!, $after: Int!) {
  taskEvents(id: $id, after: $after) {
    __typename sequence
    ... on TaskStatusChanged { status }
    ... on PartialImageReady { index partialImageIndex image { url mediaType } }
    ... on ImageReady { index image { url mediaType } }
    ... on NoticeGiven { notice { message } }
    ... on TaskRetryScheduled { retryAt failure { code message } }
    ... on TaskFailed { failure { code message } }
  }
}"""

SHOWN = ("status", "notice", "retryAt", "failure")


def save(url: str, name: str, media_type: str) -> None:
    path = Path(f"{name}.{media_type.rpartition('/')[2].replace('jpeg', 'jpg')}")
    with urllib.request.urlopen(url) as response:
        path.write_bytes(response.read())
    print(f"    saved {path}")


async def watch(task: str, server: str) -> None:
    after = 0
    while True:
        try:
            async with connect(
                server.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-transport-ws"]
            ) as ws:
                await ws.send('{"type": "connection_init"}')
                payload = {"query": WATCH, "variables": {"id": task, "after": after}}
                async for text in ws:
                    message = json.loads(text)
                    if message["type"] == "connection_ack":
                        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                    elif message["type"] == "next":
                        event = message["payload"]["data"]["taskEvents"]
                        after = event["sequence"]
                        print(f"{after:3} {event['__typename']}", *(event[name] for name in SHOWN if name in event))
                        if image := event.get("image"):
                            stage = event.get("partialImageIndex")
                            name = f"picture-{event['index']}" + ("" if stage is None else f"-partial-{stage}")
                            await asyncio.to_thread(save, image["url"], name, image["mediaType"])
                    elif message["type"] in ("complete", "error"):
                        if message["type"] == "error":
                            sys.exit(message["payload"][0]["message"])
                        return
        except (ConnectionClosed, OSError):
            print("    connection lost, coming back …")
            await asyncio.sleep(1)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python docs/examples/watch.py TASK_ID [http://127.0.0.1:8000]")
    asyncio.run(watch(sys.argv[1], (sys.argv[2:] or ["http://127.0.0.1:8000"])[0].rstrip("/")))
