"""What an installation has and can do: versions, processor, GPU, decoders, models, folders."""
