"""Names of the files that the command `train` leaves in a run's folder."""

#: The options of the run
CONFIG = "config.yaml"
#: The model at the end
MODEL = "model.zip"
#: The page, and the folder of the recording that it is made of
PAGE, RECORDING = "page.html", "recording"
