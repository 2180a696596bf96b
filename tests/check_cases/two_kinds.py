"""Two applications under the two default names."""


def application(environ, start_response):
    raise NotImplementedError


async def app(message, channels):
    raise NotImplementedError
