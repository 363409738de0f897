"""What shows scalars of trainings besides TensorBoard: Weights & Biases, MLflow, Trackio, or a user's own."""
