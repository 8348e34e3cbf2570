"""Pages in the browser of whoever runs the process: try a classifier, look at how good it is, label texts for one.

FastAPI answers and uvicorn listens; the pages are plain HTML and JavaScript of this package, which load nothing.
"""
