"""From ciphertext to tokens: sealed files, loader, engines."""
