"""Noise to data: the transport sampler."""

from brenier.generate.sampler import Draw, TransportSampler

__all__ = ["Draw", "TransportSampler"]
