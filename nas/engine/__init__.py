"""Where trials run: this process or worker processes of this machine."""
