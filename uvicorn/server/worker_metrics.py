"""The metrics of all workers, added up in the supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from uvicorn.server.worker_handle import Worker

if TYPE_CHECKING:
    from uvicorn.server.metrics import Totals
    from uvicorn.server.metrics_listener import MetricsListener


@final
class WorkerMetrics:
    """The sum of the numbers that workers send once a second. Without a metrics address, all methods do nothing."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.totals: Totals | None = None
        self._listener: MetricsListener | None = None

    def open(self) -> None:
        """Serve the metrics. Raise ConfigError for an unusable address."""
        if self._address:
            # Imported late: a supervisor without metrics saves 0.4 MiB.
            from uvicorn.server.metrics import Totals
            from uvicorn.server.metrics_listener import MetricsListener

            self.totals = Totals()
            self._listener = MetricsListener(self._address, self.totals.text)

    def close(self) -> None:
        """Stop serving the metrics."""
        if self._listener is not None:
            self._listener.close()

    def update(self, worker: Worker, line: str) -> None:
        """Read and store the numbers that `worker` has sent in `line`."""
        if self.totals is not None:
            self.totals.update_from(worker.process.pid, line)

    def read_last(self, worker: Worker) -> None:
        """Read the numbers that a worker has sent before its end."""
        known = -1
        while self.totals is not None and len(worker.buffer) != known:
            known = len(worker.buffer)
            for word, rest in worker.received_lines() or ():
                if word == "metrics":
                    self.update(worker, rest)
                    known = -1

    def end(self, worker: Worker) -> None:
        """Keep the counters of a worker that has ended."""
        if self.totals is not None:
            self.totals.end(worker.process.pid)
