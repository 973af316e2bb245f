"""Where trials run: this process, worker processes of this machine, or a Ray cluster."""
