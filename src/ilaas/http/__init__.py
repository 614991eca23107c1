"""The way in: the inference protocol on uvicorn's parser, and FastAPI for all that is not inference."""
