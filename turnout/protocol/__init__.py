"""The wire protocol: tensors, codecs, errors and events. It is the only part of Turnout in the Lambda zips."""
