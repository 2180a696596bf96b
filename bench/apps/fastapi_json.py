"""A FastAPI application that returns a small JSON object, without lifespan and without validation."""

from typing import Any

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/item")
@app.get("/item/{number}")
async def item(number: int = 7) -> dict[str, Any]:
    return {"id": 7, "name": "hammer", "tags": ["steel", "wood"], "price": 12.5}
