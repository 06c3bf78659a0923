"""Training: configuration, cache, augmentation on the device, one loop, checkpoints."""
