"""Three ways to turn a torch module into a stored model, and a check of each from the driver."""

# --8<-- [start:imports]
import numpy as np
import torch
from torch import Tensor

from taskensemble import Client, Experiment
from taskensemble.ml.torch import export_model, script_model, trace_model

# --8<-- [end:imports]

exp = Experiment("own_models", launcher="local")
db = exp.create_database(port=0)
exp.start(db)


# --8<-- [start:network]
class Network(torch.nn.Module):
    """Ten numbers in, two out; what is negative at the end becomes zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(10, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).clamp(min=0.0)


network = Network()  # and here it would be trained
# --8<-- [end:network]

# --8<-- [start:serialise]
example = torch.rand(4, 10)
models = {
    "scripted": script_model(network),
    "traced": trace_model(network, example),
    "exported": export_model(network, example),
}
# --8<-- [end:serialise]

# --8<-- [start:check]
client = Client(cluster=False, address=db.get_address()[0])
client.put_tensor("x", example.numpy())
for name, model in models.items():
    client.set_model(name, model, "TORCH", "CPU")
    client.run_model(name, inputs=["x"], outputs=["y"])
    error = np.abs(client.get_tensor("y") - network(example).detach().numpy())
    print(f"{name} differs by {error.max():.0e} at most")
# --8<-- [end:check]
exp.stop(db)
