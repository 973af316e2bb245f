"""What arch=, space=, latency= and the name of a study mean in every command."""
