"""Scripts that train the sample models; `python -m examples.iris.train` writes models/iris again."""
