"""worldloom: train, dream in, play, plan with and measure world models, every family behind one contract."""
