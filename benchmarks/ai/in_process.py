"""Call a TorchScript model as often as asked: the limit that no database can beat. Started by `clients.InProcess`."""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch


def main() -> None:
    model = torch.jit.load(sys.argv[1]).eval()
    shape = json.loads(sys.argv[2])
    clock = time.perf_counter_ns
    for line in sys.stdin:
        size, seconds = json.loads(line)
        sample = torch.rand(size, *shape)
        times = []
        with torch.inference_mode():
            for _ in range(3):
                model(sample)
            end = clock() + int(seconds * 1e9)
            while (start := clock()) < end:
                model(sample)
                times.append(clock() - start)
        print(statistics.median(times) / 1000, flush=True)


if __name__ == "__main__":
    main()
