"""Files of models, memories and training runs: written whole or not at all, read without running what they say."""
