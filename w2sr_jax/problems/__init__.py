"""Sources of problems (generated word problems, files, the Hugging Face Hub, TFDS), copies of questions, and splits."""
