"""`pixart-serve`: an image server with OpenAI's API.

`engine` draws for many clients on one pipeline, `api` speaks HTTP; both are plain asyncio. `replica`, `application`
and `lifetime` put them on Ray Serve.
"""
