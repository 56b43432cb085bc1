"""Models of an outcome: each is fitted on a matrix, predicts, explains and is written as plain numbers."""
