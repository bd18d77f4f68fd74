"""Examples that use licet from outside: they call its commands and read its files, nothing in licet imports them."""
