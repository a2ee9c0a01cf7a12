"""The bucket, the queues and the worker of asynchronous requests, and their permissions, if a stage has `async`."""
