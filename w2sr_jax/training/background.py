"""One piece of work at a time in a thread of its own, whose error reaches the one who waits for it."""

import threading
from collections.abc import Callable


class Background:
    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin; what was begun before must have been waited for."""

        def run() -> None:
            try:
                work()
            except BaseException as error:  # raised again where it is waited for
                self._error = error

        self._thread = threading.Thread(target=run, name=self._name)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether the work has ended with an error that nobody has seen."""
        return self._error is not None

    def wait(self) -> None:
        """Return when the work is done. Its error is raised once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
