"""Tests of text formatting: the beginning of a sentence, choices."""

from __future__ import annotations

import pytest

from nas.core.formatting import alternatives, sentence_case


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy after the last epoch", "Accuracy after the last epoch"),
        ("mIoU after the last epoch", "mIoU after the last epoch"),
        ("mAP through the file", "mAP through the file"),
        ("AP", "AP"),
        ("int8, calibrated on 4 images", "Int8, calibrated on 4 images"),
        ("mixnet_s at 32 px", "mixnet_s at 32 px"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_its_word_is_a_name(text: str, expected: str) -> None:
    assert sentence_case(text) == expected


def test_a_choice_ends_with_or() -> None:
    assert [alternatives(values) for values in ((2,), (3, 4), (3, 4, 6))] == ["2", "3 or 4", "3, 4 or 6"]
