"""The bucket, the queues and the worker of asynchronous requests, and who may use them: where a stage has `async`."""
