"""From a picture to a service: prompt files drawn in batches (`generate`) and an image server (`server`), on Ray.

What both draw with is here: a picture as a value, the loaded export that draws it, and the Ray it runs on. Only the
modules `ray_session`, `generate/pool`, `server/replica` and `server/lifetime` import Ray.
"""
