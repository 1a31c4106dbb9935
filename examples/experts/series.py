"""An expert that is quick and good for small angles: the first terms of the series of a pendulum's period."""

import sys

import numpy as np

from taskensemble.ai import Client

if __name__ == "__main__":
    angles = np.linspace(0.1, float(sys.argv[1]), 30)
    client = Client()
    client.put_tensor("angles", angles)
    client.put_tensor("periods", 1 + angles**2 / 16 + 11 * angles**4 / 3072)
