"""When a request that was turned away is sent again, without asking anybody."""

from __future__ import annotations

import random
from dataclasses import dataclass

from providers.errors import ProviderError

FIRST_SECONDS = 1.0
"""About how long the first pause is, where the provider does not say; each one is twice as long as the one before."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and how patiently: at most `attempts` in all, with pauses of at most `seconds`."""

    attempts: int
    seconds: float

    def pause(self, attempt: int, exc: ProviderError) -> float | None:
        """Seconds until the next attempt after number `attempt` failed; None when there is none.

        Only what provably was not carried out is sent again. A pause that the provider asks for is kept, and a little
        more, so that not everybody comes back at the same moment; one that is too long is left to whoever asked.
        """
        if not exc.safe_to_send_again or attempt >= self.attempts:
            return None
        if exc.retry_after is None:
            longest: float = FIRST_SECONDS * 2 ** (attempt - 1)
            return min(longest, self.seconds) * random.uniform(0.5, 1.0)
        return None if exc.retry_after > self.seconds else exc.retry_after * random.uniform(1.0, 1.1)
