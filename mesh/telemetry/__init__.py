"""What the mesh saw: access logs in, time series out."""
