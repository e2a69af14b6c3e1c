"""What is shown of a failed task's log."""

from __future__ import annotations

from textmill.cluster.task_log import last_words

LAUNCHER = [
    "I1121 17:36:50.101010       1 launcher_v2.go:204] Executing component",
    "[KFP Executor 2026-11-21 17:36:51,1 INFO]: Looking for component `train` in --component_module_path",
    'time="2026-11-21T17:36:59.000Z" level=info msg="sub-process exited"',
]
TRACE = [
    "Traceback (most recent call last):",
    '  File "<frozen runpy>", line 198, in _run_module_as_main',
    "textmill.errors.SettingsError: unknown setting 'steps' in overrides.",
    "F1121 17:37:01.000000       1 main.go:54] failed to execute component: exit status 1",
]


def test_an_error_of_ours_is_its_one_line() -> None:
    said = [*LAUNCHER, "training char-gru", *TRACE]
    assert last_words(said, 20) == ["training char-gru", "unknown setting 'steps' in overrides."]


def test_a_bug_keeps_its_traceback() -> None:
    trace = [TRACE[0], TRACE[1], "ZeroDivisionError: division by zero"]
    assert last_words([*LAUNCHER, *trace], 20) == trace
    assert last_words([*LAUNCHER, *trace], 2) == trace[1:]


def test_where_only_the_launcher_spoke_it_is_shown() -> None:
    assert last_words(LAUNCHER, 2) == LAUNCHER[1:]
    assert last_words([], 2) == []
