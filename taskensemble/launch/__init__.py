"""Doer: bring workers and the embedded control plane up as processes: local, in an allocation, in a batch job."""
