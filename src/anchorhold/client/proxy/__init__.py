"""The local verifying proxy: OpenAI's API on loopback, and beyond it nothing but the sealed channel."""
