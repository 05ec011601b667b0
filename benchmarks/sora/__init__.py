"""What prompts can be asked of a model of captioned balls: `python -m benchmarks sora RUN`; see :mod:`.command`."""
