#!/usr/bin/env bash
# ExecuTorch takes a channels-last tensor for a contiguous one: other outputs for equal images, and no error
#
# Packages: executorch 1.5.1, torch 2.14.1, numpy 2.4.6; Python 3.11, Linux x86-64.
#
# Behaviour: a program that was exported for a contiguous input gets the same image in torch's channels-last layout. Its
# runtime reads the memory from start to end as if it were contiguous, and returns what belongs to scrambled pixels. Any
# other layout is refused with a RuntimeError that says "should be contiguous or channels-last".
#
# Guessed: torch's semantics, in which layouts never change a result: equal outputs, by a copy or by the strides. The
# message names channels-last as one of the two layouts that are supported.
#
# Output seen:
#   contiguous input:    first row 0, 1, 2, 3
#   channels-last input: first row 0, 12, 1, 13
#   a transposed input:  refused
#
# Matters here: images that were prepared with PIL and NumPy are channels-last in memory, and a batch that is turned to
# (N, C, H, W) keeps that layout: accuracy is that of guessing. nas/exporters/executorch/session.py copies every batch.
#
# Checked: the outputs of equal tensors differ between the two layouts, and a third layout is refused.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check executorch==1.5.1 torch==2.14.1 numpy==2.4.6
cd "$work"
venv/bin/python - 2>/dev/null <<'PYTHON'
import sys

import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class FirstRows(torch.nn.Module):
    """The first row of each channel."""

    def forward(self, image):
        return image[:, :, 0, :] * 1.0


image = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
exported = torch.export.export(FirstRows().eval(), (image,))
program = Runtime.get().load_program(to_edge_transform_and_lower(exported).to_executorch().buffer)
method = program.load_method("forward")


def first_row(tensor):
    assert torch.equal(tensor, image)
    return [int(value) for value in method.execute([tensor])[0][0, 0].tolist()]


contiguous = first_row(image)
last = first_row(image.contiguous(memory_format=torch.channels_last))
try:
    first_row(image.transpose(2, 3).contiguous().transpose(2, 3))
    refused = False
except RuntimeError:
    refused = True
print(f"contiguous input:    first row {', '.join(map(str, contiguous))}")
print(f"channels-last input: first row {', '.join(map(str, last))}")
print(f"a transposed input:  {'refused' if refused else 'accepted'}")
as_stated = contiguous == [0, 1, 2, 3] and last != contiguous and refused
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
