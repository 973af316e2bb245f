#!/usr/bin/env bash
# torchvision's SSD learns nothing from images without objects, where its RetinaNet does
#
# Packages: torchvision 0.29.1, torch 2.14.1; Python 3.11, Linux x86-64.
#
# Behaviour: SSD.compute_loss trains on the hardest default boxes of the background, three for each default box that
# matches an object, and counts these image by image (torchvision/models/detection/ssd.py: neg_to_pos_ratio *
# foreground_idxs.sum(1)). In an image without objects that is three times zero: neither its loss nor any gradient
# depends on what is in it, batch statistics apart. Such images are accepted, cost as much time as others, and are
# silently without effect, however many false detections the network has in them.
#
# Guessed: an image of background alone is the plainest source of negatives, as it is for RetinaNet's focal loss in the
# same package.
#
# Output seen (random weights, two images, the second without objects; sums of absolute gradients of the class logits):
#   ssdlite320_mobilenet_v3_large: 7.1 in the image with an object, 0.0 in the one without
#   retinanet_resnet50_fpn: 0.1 in the image with an object, 0.5 in the one without
#
# Matters here: nas trains SSDLite with these losses. Photos of empty scenes do not teach it that nothing is there;
# photos with an object beside what is mistaken for one do.
#
# Checked: the gradient in SSD's image without objects is exactly 0, those of the three others are not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1
cd "$work"
venv/bin/python - 2>/dev/null <<'PYTHON'
import sys

import torch
from torchvision.models.detection import retinanet_resnet50_fpn, ssdlite320_mobilenet_v3_large


def gradients(build):
    """Sum of absolute gradients of the class logits, of each image."""
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, num_classes=4).train()
    logits = []

    def keep(_module, _inputs, outputs):
        outputs["cls_logits"].retain_grad()
        logits.append(outputs["cls_logits"])

    model.head.register_forward_hook(keep)
    images = [torch.rand(3, 320, 320) for _ in range(2)]
    with_object = {"boxes": torch.tensor([[40.0, 40.0, 160.0, 160.0]]), "labels": torch.tensor([1])}
    without = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images, [with_object, without])
    losses["classification"].backward()
    return logits[0].grad.abs().sum(dim=(1, 2)).tolist()


torch.set_num_threads(1)
found = {build.__name__: gradients(build) for build in (ssdlite320_mobilenet_v3_large, retinanet_resnet50_fpn)}
for name, (with_object, without) in found.items():
    print(f"{name}: {with_object:.1f} in the image with an object, {without:.1f} in the one without")
(ssd, ssd_empty), (retina, retina_empty) = found.values()
as_stated = ssd > 0 and ssd_empty == 0 and retina > 0 and retina_empty > 0
print("as stated" if as_stated else "CHANGED: the behaviour is no longer as stated above")
sys.exit(0 if as_stated else 1)
PYTHON
