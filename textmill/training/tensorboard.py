"""TensorBoard event files. Needs the `tensorboard` package alone, not TensorFlow."""

from __future__ import annotations

from pathlib import Path


class ScalarWriter:
    """One run's scalars in `folder`. `first_step` > 0 lets TensorBoard forget what a killed run wrote from there on."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))
        self._event = Event
        if first_step:
            start = Event(step=first_step, session_log=SessionLog(status=SessionLog.START))
            self._writer.add_event(start)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Record `values` (tag -> value) at `step`."""
        import time

        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
