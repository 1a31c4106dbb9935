"""The trainer: learns from what the members upload while they run, and stores each better
network where they find it."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from taskensemble.ai import Client
from taskensemble.ml.torch import DynamicDataGenerator, script_model

EPOCHS, STORE_EVERY = 12, 2


class Flow(nn.Module):
    """Predicts states (n, 2) a step later, as a change."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 48),
            nn.Tanh(),
            nn.Linear(48, 48),
            nn.Tanh(),
            nn.Linear(48, 2),
        )

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state + self.layers(state)


torch.manual_seed(1)
torch.set_num_threads(1)
client = Client()
network = Flow()
optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
# --8<-- [start:learn]
# The names in SSKEYIN, the members registered by the driver, are where the data comes from.
swings = DynamicDataGenerator(
    data_info_or_list_name="swings",
    batch_size=64,
    cluster=False,
    wait_interval=0.1,
)
losses: list[float] = []
for epoch in range(EPOCHS):
    total, batches = 0.0, 0
    for states, targets in swings:
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(network(states), targets)
        loss.backward()
        optimiser.step()
        total, batches = total + loss.item(), batches + 1
    losses.append(total / batches)
    schedule.step()
    if epoch % STORE_EVERY == 0 or epoch == EPOCHS - 1:
        client.set_model("flow", script_model(network), "TORCH", device="CPU")
# --8<-- [end:learn]
client.put_tensor("trained", np.array([EPOCHS]))
result = {
    "samples": swings.num_samples,
    "first_loss": losses[0],
    "last_loss": losses[-1],
}
Path("result.json").write_text(json.dumps(result))
