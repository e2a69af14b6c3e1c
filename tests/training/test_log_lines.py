"""The lines that users of the old systems know."""

from __future__ import annotations

import math

from textmill.training import log_lines as lines


def test_perplexity_lines_are_those_of_ptb_word_lm() -> None:
    assert lines.epoch_line(0, 1.0) == "Epoch: 1 Learning rate: 1.000"
    assert (
        lines.progress_line(0.102, math.log(491.138), 1558.4, "wps")
        == "0.102 perplexity: 491.138 speed: 1558 wps"
    )
    assert lines.epoch_end_line(0, "Train", math.log(486.294), None) == "Epoch: 1 Train Perplexity: 486.294"
    assert (
        lines.final_line(math.log(433.468), math.log(407.0))
        == "Test Perplexity: 433.468 (counting words alone: 407.000)"
    )


def test_a_small_learning_rate_is_not_shown_as_zero() -> None:
    assert lines.epoch_line(2, 0.0003) == "Epoch: 3 Learning rate: 0.000300"


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert lines.progress_line(1.0, 1e6, 1.0, "wps").startswith("1.000 perplexity: inf")


def test_stats_lines_are_those_of_the_shakespeare_program() -> None:
    assert (
        lines.training_stats(50, 1712, 0, 2.5, 0.25)
        == "TRAINING STATS: batch 50/1712 in epoch 0, batch loss: 2.50000, batch accuracy: 0.25000"
    )
    assert lines.validation_stats(1.42, 0.578) == "VALIDATION STATS: loss: 1.42000, accuracy: 0.57800"


def test_the_view_keeps_its_columns_whatever_the_text() -> None:
    rows = [
        (0, "hamlet.txt", "To be\n", "To do\t", 1.5),
        (123456, "a" * 60, "\x00\u200b" + "x" * 40, "", 12.25),
    ]
    shown = lines.view(rows, 3).splitlines()
    assert shown[0].startswith("      0 (epoch 3) hamlet.txt               │ To be\\ ")
    assert shown[0].index("loss:") == shown[1].index("loss:")
    assert "\x00" not in shown[1]
    assert shown[-1].split()[0] == "INDEX"


def test_step_lines_begin_as_gpt_2_simples() -> None:
    said = lines.step_line(10, 83.456, 3.4, 3.51, 612.3, 3700)
    assert said == ("[10 | 83.46] loss=3.40 avg=3.51 perplexity: 29.964 speed: 612 tps, about 1 h 1 min left")
    assert lines.step_line(10, 1.0, 0.0, 0.0, 1.0, 0.0).endswith("speed: 1 tps")
    assert lines.sample_blocks(["one", "two"]) == (
        "======== SAMPLE 1 ========\none\n\n======== SAMPLE 2 ========\ntwo\n"
    )
    assert (
        lines.step_validation(100, 62.1, 3.456, 0.412, math.log(512.3), "tps")
        == "[100 | 62.10] validation loss=3.456 accuracy=0.412 perplexity: 31.690 (counting tokens alone: 512.300)"
    )


def test_the_speed_is_said_in_the_tokenizers_tokens() -> None:
    assert [lines.speed_unit(name) for name in ("char", "word", "bpe")] == ["cps", "wps", "tps"]
