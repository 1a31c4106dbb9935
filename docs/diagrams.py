"""The manual's diagrams, drawn as SVG when the manual is built.

`PARTS` is the architecture as a table; a test compares it with the folders and imports of the code, so that the picture and the
code cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

INK, MUTED, PAPER, LINE = "#22252b", "#5d6470", "#fbfaf7", "#8a909c"
VIOLET, ORANGE, GREEN, BLUE, GREY = "#ece6f7", "#fde9e0", "#e3f1e6", "#e2edf8", "#eeede8"
FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"


@dataclass
class Drawing:
    """An SVG picture: boxes with text, and arrows between points; lengths in pixels."""

    width: int
    height: int
    title: str
    shapes: list[str] = field(default_factory=list)

    def box(
        self, area: tuple[float, float, float, float], title: str, lines: Sequence[str] = (), fill: str = GREY
    ) -> None:
        """A rounded box (x, y, width, height) with a heading and lines of text."""
        x, y, w, h = area
        self.shapes.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="9" fill="{fill}" stroke="{LINE}"/>')
        self.text(x + 14, y + 24, title, bold=True)
        for number, line in enumerate(lines):
            self.text(x + 14, y + 45 + 18 * number, line, size=12, colour=MUTED)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 14,
        bold: bool = False,
        colour: str = INK,
        anchor: str = "start",
    ) -> None:
        """One line of text; x, y is where its base line begins, or its middle or end by `anchor`."""
        weight = ' font-weight="bold"' if bold else ""
        self.shapes.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def arrow(
        self,
        points: Sequence[tuple[float, float]],
        label: str = "",
        at: tuple[float, float] | None = None,
        *,
        both: bool = False,
    ) -> None:
        """An arrow along some points, with a label at a place of its own."""
        path = " ".join(f"{x},{y}" for x, y in points)
        start = ' marker-start="url(#tip)"' if both else ""
        self.shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#tip)"{start}/>'
        )
        if label and at:
            for number, line in enumerate(label.split("\n")):
                self.text(at[0], at[1] + 16 * number, line, size=12)

    def svg(self) -> str:
        """The picture as text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="{FONT}" role="img" aria-label="{escape(self.title)}">'
            f"<title>{escape(self.title)}</title>"
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0,0 L10,5 L0,10 z" fill="{INK}"/></marker></defs>'
            f'<rect width="{self.width}" height="{self.height}" rx="14" fill="{PAPER}"/>'
        )
        return head + "".join(self.shapes) + "</svg>\n"


def concepts() -> str:
    """What a run consists of, and who talks to whom."""
    d = Drawing(980, 520, "A driver, the control plane, workers with members, and the database with inference workers")
    d.box(
        (30, 40, 230, 130),
        "Driver",
        [
            "your script: an Experiment",
            "describes members, starts them,",
            "waits, reads results;",
            "may end before its run does",
        ],
        VIOLET,
    )
    d.box(
        (375, 40, 245, 130),
        "Control plane",
        ["Valkey, Redis or RabbitMQ", "messages, run records,", "claims, leases, events"],
        BLUE,
    )
    d.box((735, 40, 215, 300), "Node", [], GREY)
    d.box((750, 75, 185, 74), "Worker", ["claims members,", "gives each its slot"], BLUE)
    d.box((750, 160, 185, 58), "Guard", ["ends what is left over"], BLUE)
    d.box((750, 230, 185, 95), "Members", ["your program, one process", "tree and one folder each"], ORANGE)
    d.text(842, 362, "… and as many nodes as you like", size=12, colour=MUTED, anchor="middle")
    d.box(
        (375, 235, 245, 105),
        "AI database",
        ["Valkey or Redis with the AI module:", "tensors, models, scripts;", "queues and batches requests"],
        GREEN,
    )
    d.box(
        (375, 400, 245, 90),
        "Inference workers",
        ["torch, TensorFlow, LiteRT, ONNX:", "one process a backend and device"],
        GREEN,
    )
    d.arrow([(260, 85), (375, 85)], "a run", (278, 77))
    d.arrow([(375, 135), (260, 135)], "events", (290, 153))
    d.arrow([(620, 100), (750, 100)], "one message\na member", (632, 70))
    d.arrow([(750, 130), (620, 130)], "claims, leases,\nends", (632, 148))
    d.arrow([(750, 285), (620, 285)], "tensors, models\nto run", (634, 255), both=True)
    d.arrow([(497, 340), (497, 400)], "batches of requests", (508, 375), both=True)
    d.arrow(
        [(145, 170), (145, 290), (375, 290)],
        "models and scripts are loaded\nand checked by the setup task\nbefore a member starts;\nthe driver may read tensors",
        (155, 215),
    )
    return d.svg()


@dataclass(frozen=True)
class Part:
    """A package of the code: where it is, what for, and which other parts it imports."""

    path: str
    what: str
    layer: str
    imports: tuple[str, ...] = ()


PARTS = (
    Part("taskensemble/cli", "the command", "surface", ("taskensemble/launch",)),
    Part("taskensemble/smartsim", "SmartSim's API", "surface", ("taskensemble/experiment.py",)),
    Part(
        "taskensemble/experiment.py", "the factory", "surface", ("taskensemble/plan.py", "taskensemble/connection.py")
    ),
    Part("taskensemble/connection.py", "its control plane", "surface", ("taskensemble/launch",)),
    Part("taskensemble/dashboard", "runs, live", "surface", ("taskensemble/engine",)),
    Part("taskensemble/report", "a run as a page", "surface", ("taskensemble/engine",)),
    Part("taskensemble/demo", "the demo", "surface", ("taskensemble/ai",)),
    Part("taskensemble/wlm", "this allocation", "surface", ("taskensemble/engine", "taskensemble/settings")),
    Part("taskensemble/entity", "Model, Ensemble, Database, their files and assets", "descriptions"),
    Part("taskensemble/settings", "run settings and batch settings", "descriptions"),
    Part(
        "taskensemble/plan.py",
        "turns descriptions into records",
        "records",
        ("taskensemble/entity", "taskensemble/settings", "taskensemble/engine"),
    ),
    Part("taskensemble/engine", "records, the store and its script, messages", "records"),
    Part("taskensemble/generation", "members' folders", "doers", ("taskensemble/engine",)),
    Part("taskensemble/transfer", "files between hosts", "doers", ("taskensemble/engine", "taskensemble/generation")),
    Part("taskensemble/database", "servers, assets", "doers", ("taskensemble/engine", "taskensemble/ai")),
    Part("taskensemble/launch", "workers, jobs", "doers", ("taskensemble/engine", "taskensemble/guard")),
    Part("taskensemble/guard", "ends trees (C)", "doers"),
    Part("taskensemble/ai", "module (C), client", "doers"),
    Part("taskensemble/ml", "training data", "doers", ("taskensemble/ai",)),
    Part(
        "workers",
        "the Celery app: setup, member and completion tasks; pool, slots, reaper; the inference workers",
        "nodes",
        (
            "taskensemble/engine",
            "taskensemble/generation",
            "taskensemble/database",
            "taskensemble/transfer",
            "taskensemble/guard",
        ),
    ),
)


def architecture() -> str:
    """The layers of the code; a part imports parts below it and never one above."""
    layers = (
        ("surface", "What a user calls", VIOLET),
        ("descriptions", "Descriptions: what the user says", ORANGE),
        ("records", "Records: what travels and is stored", BLUE),
        ("doers", "Doers: what acts on records", GREEN),
        ("nodes", "What a compute node runs", GREY),
    )
    d = Drawing(1180, 640, "The layers of the code, from what a user calls to what a compute node runs")
    for row, (layer, heading, fill) in enumerate(layers):
        y = 26 + 122 * row
        d.shapes.append(f'<rect x="20" y="{y}" width="1140" height="104" rx="11" fill="{fill}"/>')
        d.text(38, y + 24, heading, size=13, bold=True)
        parts = [part for part in PARTS if part.layer == layer]
        width = (1104 - 14 * (len(parts) - 1)) / len(parts)
        for column, part in enumerate(parts):
            x = 38 + column * (width + 14)
            d.shapes.append(
                f'<rect x="{x:.0f}" y="{y + 36}" width="{width:.0f}" height="56" rx="8" fill="white" stroke="{LINE}"/>'
            )
            d.text(x + 12, y + 59, part.path.removeprefix("taskensemble/"), size=13, bold=True)
            d.text(x + 12, y + 80, part.what, size=12, colour=MUTED)
        if row == 0:
            d.text(1142, y + 24, "folders and files of taskensemble/", size=12, colour=MUTED, anchor="end")
        if row == 2:
            d.text(
                1142,
                y + 24,
                "plan.py is the one step from descriptions to records",
                size=12,
                colour=MUTED,
                anchor="end",
            )
        if row == 4:
            d.text(
                1142, y + 24, "imports the doers and records; nothing imports it", size=12, colour=MUTED, anchor="end"
            )
    return d.svg()


DIAGRAMS = {"concepts.svg": concepts, "architecture.svg": architecture}
