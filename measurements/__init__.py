"""The measurement harness: fine-tuning cost on the GPU at hand. Runs alone; imports nothing from `generator`."""
