"""`darkroom doctor`: looks at a running Darkroom from where a client is, through whatever proxies are in between.

It asks only what costs nothing and changes nothing: no generation is ever started.
"""
