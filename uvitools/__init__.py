"""The import path of broadcast in the project's later documents."""
