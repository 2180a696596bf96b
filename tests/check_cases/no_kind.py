"""An application of a kind that cannot be detected."""

from uvicorn import Route, Router


def parts(one, two, three, four):
    raise NotImplementedError


application = Router(Route("/parts", parts))
