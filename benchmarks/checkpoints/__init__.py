"""The models that ship with the package: trained, packed, measured."""
