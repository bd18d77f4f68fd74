"""One file per family of diffusion models: each has a `load_family` and a class with the methods of sd15's."""
