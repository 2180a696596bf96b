"""`python -m uvicorn`."""

from uvicorn.cli import main

if __name__ == "__main__":
    main()
