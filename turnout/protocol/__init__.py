"""The wire: tensors, codecs, errors and events. The only part of Turnout that travels into the Lambda zips."""
