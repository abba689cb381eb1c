"""The typed face: the only room that knows Strawberry, HTTP and websockets."""
