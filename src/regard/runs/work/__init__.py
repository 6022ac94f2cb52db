"""What a training run does for each task: data in, batches and loss, a validation, the finished directory."""
