"""How much time Darkroom adds, measured on real processes and real sockets."""
