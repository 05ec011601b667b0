"""How far a dream can be trusted, measured: calibration of the bound that :mod:`worldloom.imagination.trust` reads."""
