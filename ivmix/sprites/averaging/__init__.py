"""The layer that the video model of the embedded pair has and no public model, its UNet, and how files hold it."""
