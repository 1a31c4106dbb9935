"""The page of a report: HTML with everything inside, pictures too. It loads nothing and runs nothing."""

from __future__ import annotations

import base64
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from statistics import median
from typing import Any

from taskensemble.handle import cause
from taskensemble.progress import duration
from taskensemble.report.facts import FAILURES, Facts
from taskensemble.report.pictures import COLOURS, FAINT
from taskensemble.report.pictures import busy as busy_steps
from taskensemble.results import flat

SHOWN = 500
"""Members that the table lists; facts.json has them all."""

OPEN = 60
"""Members up to which the table is open from the beginning; a longer one stands between the reader and what follows."""

STYLE = """
body { font: 15px/1.5 Verdana, "DejaVu Sans", sans-serif; color: #22252b; background: #fbfaf7; }
body { margin: 0 auto; max-width: 74rem; padding: 2rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
.quiet { color: #5d6470; } code, pre { font-size: .86em; }
pre { background: #f0eee8; padding: .8rem; border-radius: 6px; overflow-x: auto; white-space: pre-wrap; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .86em; }
th, td { text-align: left; vertical-align: top; white-space: nowrap; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e3e0d8; }
td.number { text-align: right; } td.path { white-space: normal; overflow-wrap: anywhere; }
img { max-width: 100%; } .state { color: white; padding: 0 .5em; border-radius: 3px; }
.counts span { margin-right: 1.4rem; } summary { cursor: pointer; color: #5d6470; }
h3 { font-size: 1rem; }
"""

TITLES = {
    "timeline": "Members on slots",
    "slots": "Slots in use",
    "durations": "Durations by parameter",
    "results": "Results by parameter",
}


def render(facts: Facts, pictures: dict[str, bytes]) -> str:
    """The page as text.

    Parameters:
        facts: of the run.
        pictures: name -> PNG file, as `pictures.draw` makes them.
    """
    status = facts.status
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(status.run_id)}</title><style>{STYLE}</style>',
        f"<h1>{escape(status.run_id)} {_state(status.state)}</h1>",
        f'<p class="quiet">{escape(_when(facts))}</p>',
        f'<p class="counts">{_counts(facts)}</p>',
    ]
    if status.reason:
        parts.append(f"<p><strong>{escape(status.reason)}</strong></p>")
    parts += _summary(facts)
    for name, picture in pictures.items():
        encoded = base64.b64encode(picture).decode("ascii")
        title = TITLES[name]
        parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{encoded}">')
    parts += [*_failures(facts), *_members(facts), *_provenance(facts), "</html>"]
    return "\n".join(parts) + "\n"


def _state(state: Any) -> str:
    return f'<span class="state" style="background:{COLOURS.get(str(state), FAINT)}">{escape(str(state))}</span>'


def _when(facts: Facts) -> str:
    status = facts.status
    told = [
        f"experiment {status.experiment}",
        f"started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(status.created))}",
    ]
    if status.started is not None and status.ended is not None:
        told.append(f"took {duration(status.ended - status.started)}")
    if facts.parent:
        told.append(f"goes on from {facts.parent}")
    return ", ".join(told)


def _counts(facts: Facts) -> str:
    status = facts.status
    counted = {
        "members": status.size,
        "completed": status.completed,
        "failed": status.failed,
        "cancelled": status.cancelled,
        "running": status.running,
        "queued": status.queued,
    }
    return "".join(
        f"<span><strong>{count}</strong> {word}</span>" for word, count in counted.items() if count or word == "members"
    )


def _summary(facts: Facts) -> Iterable[str]:
    ended = [row for row in facts.members if row["seconds"] is not None]
    if not ended:
        return
    lasted = sorted(row["seconds"] for row in ended)
    busy = sum(lasted)
    spent = max(row["ended"] for row in ended) - min(row["started"] for row in ended)
    most = max(count for _, count in busy_steps(ended))
    nodes = Counter(row["node"] for row in ended)
    said = {
        "members lasted": f"{_lasted(lasted[0])} to {_lasted(lasted[-1])}, half of them up to {_lasted(median(lasted))}",
        "members' time together": duration(busy),
        "at the same time": f"{most} at most, {busy / spent if spent else most:.3g} on average",
        "nodes": ", ".join(f"{node or 'unknown'} ({count})" for node, count in nodes.most_common(12))
        + (f" and {len(nodes) - 12} more" if len(nodes) > 12 else ""),
        "attempts": f"{retried} members needed more than one"
        if (retried := sum((row["attempt"] or 0) > 1 for row in ended))
        else None,
    }
    yield _table(("", ""), ((name, value) for name, value in said.items() if value))


def _lasted(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 1 else duration(seconds)


def _failures(facts: Facts) -> Iterable[str]:
    if not facts.failures:
        return
    yield f"<h2>Failures</h2><p>{facts.status.failed} failed:</p>"
    reasons = Counter(cause(row["reason"]) or "no reason given" for row in facts.members if row["state"] == "Failed")
    yield _table(("why", "members"), reasons.most_common(FAILURES))
    yield f"<h3>What the first {len(facts.failures)} wrote at the end</h3>" if len(facts.failures) > 1 else ""
    for failure in facts.failures:
        yield (
            f"<p><strong>{escape(failure['name'])}</strong>: {escape(cause(failure['reason']) or 'no reason given')}, attempt "
            f"{failure['attempt']}, <code>{escape(failure['log'])}</code></p>"
        )
        if failure["tail"].strip():
            yield f"<pre>{escape(failure['tail'])}</pre>"


def _members(facts: Facts) -> Iterable[str]:
    plain = [
        flat({name: row[name] for name in ("name", "state", "params", "result", "seconds", "node", "attempt")})
        for row in facts.members[:SHOWN]
    ]
    columns = [column for column in dict.fromkeys(key for row in plain for key in row) if column != "result"]
    told = (
        f"the first {SHOWN} of {len(facts.members)}; facts.json has them all"
        if len(facts.members) > SHOWN
        else len(plain)
    )
    yield f"<h2>Members</h2><details{' open' if len(plain) <= OPEN else ''}><summary>{told}</summary>"
    heads = [column.removeprefix("params.").removeprefix("result.") for column in columns]
    yield _table(heads, ([row.get(column) for column in columns] for row in plain))
    yield "</details>"


def _provenance(facts: Facts) -> Iterable[str]:
    yield "<h2>Where it came from</h2>"
    said = {
        "folder": facts.experiment_path,
        "driver": facts.driver,
        "git commit": facts.commit,
        **{f"version of {name}": version for name, version in facts.versions.items()},
    }
    yield _table(("", ""), ((name, value) for name, value in said.items() if value))
    for number, template in enumerate(facts.templates):
        told = {name: template[name] for name in ("environment", "resources", "policy", "databases") if template[name]}
        heading = f"Command {number}" if len(facts.templates) > 1 else "Command"
        yield f"<h2>{heading}</h2><pre>{escape(shlex.join(template['command']))}</pre>"
        if told:
            yield _table(("", ""), ((name, _listed(value)) for name, value in told.items()))
    assets = list({asset["name"]: asset for template in facts.templates for asset in template["assets"]}.values())
    if assets:
        yield "<h2>ML assets</h2>"
        yield _table(list(assets[0]), (list(asset.values()) for asset in assets))
    if facts.inputs:
        yield "<h2>Input files, as they are now</h2>"
        yield _table(list(facts.inputs[0]), (list(file.values()) for file in facts.inputs))


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return ", ".join(str(each) for each in value)


def _table(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(_cell(value) for value in line)}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    text = str(value)
    if text in COLOURS:
        return f"<td>{_state(text)}</td>"
    return f'<td class="path">{escape(text)}</td>' if len(text) > 40 else f"<td>{escape(text)}</td>"
