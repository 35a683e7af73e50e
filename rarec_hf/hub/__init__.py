"""What shows a trained model to others."""
