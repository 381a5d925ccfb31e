"""HTTP: the OpenAI API, search and documents in front of folders and models, and a page. Needs the extra `server`.

`create_app` returns the ASGI application, `run_server` runs it.
"""
