"""Training: arguments, data sets and collators, trainers, and the stages of the main job."""
