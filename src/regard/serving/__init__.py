"""Translation over HTTP. Needs the extra `serve`, except for `bounds` and `batching`."""
