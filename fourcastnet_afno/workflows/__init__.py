"""What each verb does with an experiment and its run folder."""
