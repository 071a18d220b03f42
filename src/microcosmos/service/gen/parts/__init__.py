"""What every generated client contains, as it is: copied after the line ``# The part.``."""
