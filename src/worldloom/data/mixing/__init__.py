"""Several datasets read as one, also of different sizes, rates and action spaces."""
