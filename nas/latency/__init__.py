"""What a network costs in time: the device, measuring on it, and predictors that price a spec without building it."""
