"""npz and HDF5 files of the common shapes."""
