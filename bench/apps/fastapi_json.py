"""A small JSON object from FastAPI. No lifespan, and no validation: what is measured is the way there and back."""

from typing import Any

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/item")
async def item() -> dict[str, Any]:
    return {"id": 7, "name": "hammer", "tags": ["steel", "wood"], "price": 12.5}
