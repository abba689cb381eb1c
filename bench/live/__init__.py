"""How live delivery compares with what one would use instead."""
