"""What a network's parameters mean for its answers: Fisher operators and natural gradient."""

from brenier.information.fisher import fisher
from brenier.information.likelihood import Bernoulli, Categorical, Gaussian, Likelihood
from brenier.information.natural import NaturalGradient
from brenier.information.operator import Fisher

__all__ = ["Bernoulli", "Categorical", "Fisher", "Gaussian", "Likelihood", "NaturalGradient", "fisher"]
