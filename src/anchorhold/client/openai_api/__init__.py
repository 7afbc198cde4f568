"""OpenAI's HTTP API over the verified channel: one core for the proxy and for the in-process transports."""
