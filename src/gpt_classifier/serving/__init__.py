"""A classifier behind HTTP: requests in, predictions of batches across requests out.

`application.py` is the service, `supervisor.py` the process that starts and replaces the workers which run it.
"""
