"""Names of the files that the command `train` leaves in a run's folder."""

#: The options of the run
CONFIG = "config.yaml"
#: The model at the end
MODEL = "model.zip"
