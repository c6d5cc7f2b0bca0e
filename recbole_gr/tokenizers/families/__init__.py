"""The tokenizers of this package, one file per family; each file says in ``TOKENIZERS`` which it has, by name."""
