"""Call a TorchScript model as often as asked: the limit that no database can beat. Started by `clients.InProcess`.

On a GPU a call takes its input from the host's memory and brings its output back there, as a database has to.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch


def main() -> None:
    device = torch.device(sys.argv[3])
    model = torch.jit.load(sys.argv[1], map_location=device).eval()
    shape = json.loads(sys.argv[2])
    clock = time.perf_counter_ns
    for line in sys.stdin:
        size, seconds = json.loads(line)
        sample = torch.rand(size, *shape)
        times = []
        with torch.inference_mode():
            for _ in range(3):
                model(sample.to(device)).cpu()
            end = clock() + int(seconds * 1e9)
            while (start := clock()) < end:
                model(sample.to(device)).cpu()
                times.append(clock() - start)
        print(statistics.median(times) / 1000, flush=True)


if __name__ == "__main__":
    main()
