"""What each field does: plain async functions over the domain, no Strawberry, no Starlette."""
