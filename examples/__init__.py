"""Scripts that train the sample models; `python -m examples.iris.train` rewrites models/iris."""
