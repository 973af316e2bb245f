"""Tests of text formatting: the beginning of a sentence."""

from __future__ import annotations

import pytest

from nas.core.formatting import sentence_case


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
