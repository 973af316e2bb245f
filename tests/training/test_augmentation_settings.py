"""Settings of augmentation: what timm accepts, and mistakes named field by field."""

from __future__ import annotations

from typing import Any

import pytest
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform

from nas.core.errors import NasError
from nas.training.augmentation_settings import AugmentationSettings


@pytest.mark.parametrize(
    ("policy", "shown"),  # what timm's own representation of the transform says
    [
        ("rand", ["n=2", "name=Rotate, p=0.5, m=10.0, mstd=0)"]),
        ("rand-m9-n3-mstd0.5", ["n=3", "name=Rotate, p=0.5, m=9, mstd=0.5)"]),
        ("rand-m7-p0.8-mstd101-mmax15-inc1", ["name=SolarizeIncreasing, p=0.8, m=7, mstd=inf, mmax=15)"]),
        ("rand-m6-tweights", ["name=ColorIncreasing"]),
        ("rand-t3a", ["name=Desaturate", "name=GaussianBlur"]),
        ("augmix-m5-w4-d2", ["width=4, depth=2", "m=5, mstd=inf"]),
        ("augmix-a0.3-b1-mstd1", ["alpha=0.3", "m=3, mstd=1.0"]),
        ("original", ["PosterizeOriginal"]),
        ("v0r-mstd0.5", ["PosterizeIncreasing", "mstd=0.5"]),
        ("3a", ["Desaturate"]),
    ],
)
def test_policies_are_accepted_that_timm_builds(policy: str, shown: list[str]) -> None:
    assert AugmentationSettings(auto_augment=policy).auto_augment == policy
    kind = policy.split("-")[0]
    build = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}.get(kind, auto_augment_transform)
    built = repr(build(policy, {"img_mean": (0, 0, 0), "translate_const": 8}))
    assert all(part in built for part in shown)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"auto_augment": "random-m9"},
            r"recipe\.auto_augment 'random-m9': must be a policy in timm's.*augmix",
        ),
        ({"auto_augment": 9}, r"recipe\.auto_augment 9: must be a policy"),
        ({"auto_augment": "rand-m9-std0.5"}, r"unknown part 'std0\.5'; rand has parts like m9, mstd0\.5, mmax10, n2"),
        ({"auto_augment": "rand-m9.5"}, r"unknown part 'm9\.5'"),  # of which timm raises ValueError
        ({"auto_augment": "rand-noise"}, r"unknown part 'noise'"),  # which timm passes over
        ({"auto_augment": "rand-n0"}, r"unknown part 'n0'"),
        ({"auto_augment": "rand-p1.5"}, r"unknown part 'p1\.5'"),
        ({"auto_augment": "rand-tfoo"}, r"unknown part 'tfoo'"),
        ({"auto_augment": "rand-m9-m8"}, r"part m is given twice"),
        ({"auto_augment": "augmix-n2"}, r"unknown part 'n2'; augmix has parts like m3, mstd0\.5, w3, d2, a1, b0"),
        ({"auto_augment": "augmix-a0"}, r"unknown part 'a0'"),
        ({"auto_augment": "original-m9"}, r"unknown part 'm9'; original has parts like mstd0\.5"),
        ({"auto_augment": "rand-"}, r"unknown part ''"),
        ({"crop_scale": 0}, r"recipe\.crop_scale 0: must be a number above 0 and at most 1, or null"),
        ({"color_jitter": -1}, r"recipe\.color_jitter -1: must be a number of at least 0"),
        ({"random_erasing": 1.1}, r"recipe\.random_erasing 1\.1: must be a number of at least 0 and at most 1"),
        ({"erase_mode": "black"}, r"unknown recipe\.erase_mode 'black': choose from const, rand, pixel"),
        ({"interpolation": "cubic"}, r"unknown recipe\.interpolation 'cubic'.*Did you mean 'bicubic'"),
        ({"crop_pct": 0.05}, r"recipe\.crop_pct 0\.05: must be a number of at least 0\.1 and at most 1"),
        ({"loader_workers": -1}, r"recipe\.loader_workers -1: must be a whole number of at least 0"),
        ({"shift": 0.7}, r"recipe\.shift 0\.7"),
    ],
    ids=str,
)
def test_mistakes_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        AugmentationSettings(**fields)
    assert "\n" not in str(caught.value)


def test_settings_for_streamed_images_alone_are_listed() -> None:
    assert AugmentationSettings(interpolation="bicubic", loader_workers=2).streamed_only == ()
    fields = {"crop_scale": 0.1, "auto_augment": "v0", "color_jitter": 0.1, "random_erasing": 0.1, "crop_pct": 0.9}
    assert AugmentationSettings(**fields).streamed_only == tuple(fields)
