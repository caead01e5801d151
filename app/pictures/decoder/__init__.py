"""The process that decodes untrusted pictures; `app/pictures/process.py` starts it.

It imports Pillow and, of our modules, this package alone. It gets an empty environment. Once it is
warm, walls.py takes away everything that decoding does not need.
"""
