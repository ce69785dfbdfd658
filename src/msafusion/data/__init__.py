"""From raw files to batches: media, preparation, preprocessing, and the data sets in `datasets`."""
