"""How the tiny Stable Diffusion base model that ships with the package was made, from licensed photos alone."""
