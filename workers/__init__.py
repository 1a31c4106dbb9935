"""What a compute node runs: the Celery worker that runs members, and the inference workers below it."""
