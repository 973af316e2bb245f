"""Methods that run as a study: architecture search and compound scaling."""
