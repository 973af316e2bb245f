"""The training loop: settings, trainer, evaluation, checkpoints, augmentation."""
