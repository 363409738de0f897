"""Where questions come from: generated arithmetic word problems, files, the Hugging Face Hub, TFDS; and splits by id."""
