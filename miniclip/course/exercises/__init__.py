"""The exercises of each notebook, a file each: nNN_name.py. What lies here is found by itself."""
