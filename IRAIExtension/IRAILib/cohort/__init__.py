"""Floor 4: many patients on many machines (Dask), many hospitals (Flower)."""
