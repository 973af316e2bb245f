"""What the commands share: options, configuration, completion, help, running one study or several."""
