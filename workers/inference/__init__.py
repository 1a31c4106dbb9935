"""The inference workers: processes that do the arithmetic of the AI database.

One worker is one process with one backend on one device, connected to the database as an ordinary client. It takes units of
work with one blocking command and hands their results back with the next; `docs/inference-protocol.md` is the contract.

    frames.py             the bytes of units and results
    connection.py         a lean client of the server: one socket, one blocking command
    segment.py            shared memory of the server, mapped by a worker
    backend.py            what a backend must offer, and which ones there are
    torch_backend.py, tensorflow_backend.py, litert_backend.py, onnx_backend.py
    torch_archive.py, torch_export.py, torch_scripts.py    the three things that the torch backend loads
    loop.py               take a unit, run it, hand the results back
    supervisor.py         starts, restarts and ends workers on the module's orders

Start them by `python -m workers.inference worker …` and `python -m workers.inference supervisor …`.
"""
