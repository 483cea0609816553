"""From a trace of three blocks of layers to that of the whole depth: the middle block's events, repeated.

Equal layers allocate and free alike, so a model of N layers need not be traced: a trace of three blocks (a block is one
layer, or one period of a pattern of layers) is cut at the blocks' borders, and what the middle one does in the forward
pass, in the backward pass, with its weights and with its optimiser states is put in as often as the model has it. What
the middle block frees of its neighbour's belongs, in a copy, to the copy's neighbour. ``tests/test_trace.py`` compares
the result with traces of the whole depth: the events are the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from .trace_allocator import LOADED
from .trace_recorder import BIASED, PRODUCT, Events, Place


class NotRepeatable(Exception):
    """The blocks do not free each other's memory alike."""


@dataclass
class Copies:
    """Events of the whole depth: ``order`` as in ``Events``; ``source[i]`` is the allocation of the trace that
    allocation ``i`` is a copy of."""

    order: list[int]
    source: list[int]
    marks: list[tuple[int, str]]


Run = tuple[Place | None, int, int]


def _runs(events: Events) -> list[Run]:
    """Stretches of events of one place: (place, first, end)."""
    found: list[Run] = []
    borders = [*events.places, (len(events.order), None)]
    place: Place | None = None
    begin = 0
    for position, after in borders:
        if position > begin:
            if found and found[-1][0] == place:
                found[-1] = (place, found[-1][1], position)
            else:
                found.append((place, begin, position))
            begin = position
        place = after
    return found


class _Links:
    """Which allocations of one block its neighbours free."""

    def __init__(self, events: Events, runs: list[Run]) -> None:
        self.owner: dict[int, Place | None] = {}
        freed: dict[tuple[str, int, str], list[int]] = defaultdict(list)
        wanted: dict[int, tuple[str, int, str, int]] = {}
        taken: dict[tuple[str, int, str], int] = defaultdict(int)
        for place, first, end in runs:
            for item in events.order[first:end]:
                if item >= 0:
                    self.owner[item] = place
                    continue
                owner = self.owner[~item]
                if place is None or owner is None or place[0] not in "FB":
                    continue
                step = owner[1] - place[1]
                if owner[1] == 1 and step in (1, -1):  # a neighbour frees the middle block's
                    freed[(place[0], step, owner[0])].append(~item)
                elif place[1] == 1 and step in (1, -1):  # the middle block frees a neighbour's
                    key = (place[0], step, owner[0])
                    wanted[~item] = (*key, taken[key])
                    taken[key] += 1
        self.counterpart: dict[int, tuple[int, int]] = {}
        """An allocation of a neighbour → (direction of the neighbour, the middle block's allocation like it)."""
        for item, (phase, step, kind, number) in wanted.items():
            like = freed[(phase, step, kind)]
            if number >= len(like):
                raise NotRepeatable(f"{phase} {kind} {step}")
            self.counterpart[item] = (step, like[number])
        for key, count in taken.items():
            if len(freed[key]) != count:
                raise NotRepeatable(str(key))
        self.outward = {item: (phase, step) for (phase, step, _), items in freed.items() for item in items}


def repeat_middle(events: Events, count: int) -> Copies:
    """The events of a model whose middle block stands there ``count`` times. Raises NotRepeatable."""
    runs = _runs(events)
    links = _Links(events, runs)
    order: list[int] = []
    source: list[int] = []
    numbers: dict[tuple[int, int], int] = {}
    marks: list[tuple[int, str]] = []
    waiting = list(events.marks)[::-1]

    def allocate(item: int, copy: int) -> None:
        numbers[(item, copy)] = len(source)
        order.append(len(source))
        source.append(item)

    def middle(item: int) -> bool:
        owner = links.owner[item]
        return owner is not None and owner[1] == 1

    def free(item: int, copy: int) -> None:
        order.append(~numbers[(item, copy)])

    def copies(place: Place) -> Iterator[int]:
        return iter(range(count, 0, -1) if place[0] == "B" else range(1, count + 1))

    def mark_until(position: int) -> None:
        while waiting and waiting[-1][0] <= position:
            marks.append((len(order), waiting.pop()[1]))

    for place, first, end in runs:
        if place is not None and place[1] == 1:
            mark_until(first)
            for copy in copies(place):
                for item in events.order[first:end]:
                    if item >= 0:
                        allocate(item, copy)
                    elif middle(~item):
                        free(~item, copy)
                    elif ~item in links.counterpart:
                        step, like = links.counterpart[~item]
                        other = copy + step
                        if 1 <= other <= count:
                            free(like, other)
                        else:
                            free(~item, 0)
                    elif copy == (1 if place[0] != "B" else count):
                        free(~item, 0)
            continue
        for position in range(first, end):
            mark_until(position)
            item = events.order[position]
            if item >= 0:
                allocate(item, 0)
            elif not middle(~item):
                free(~item, 0)
            elif place is not None and ~item in links.outward and links.outward[~item] == (place[0], 1 - place[1]):
                free(~item, 1 if place[1] == 0 else count)
            else:
                for copy in range(1, count + 1):
                    free(~item, copy)
    mark_until(len(events.order))
    return Copies(order, source, marks)


def one_step(events: Events) -> Copies:
    """The events as they were traced."""
    return Copies(list(events.order), list(range(len(events.sizes))), list(events.marks))


def two_steps(copies: Copies) -> Copies:
    """From one step with the optimiser's states made before it, the first two steps of a training: the states (and the
    workspace of the backward pass) are made in the first. What that leaves behind in the allocator decides how much
    more than the peak it reserves."""
    at = {phase: position for position, phase in copies.marks}
    begin, prepared, end = at["begin"], at["prepared"], at["end"]
    order, source = list(copies.order[:begin]), list(copies.source)
    workspaces, states = copies.order[begin : at["workspaces"]], copies.order[at["workspaces"] : prepared]
    taken = {PRODUCT: iter(workspaces[:2]), BIASED: iter(workspaces[2:])}
    marks = [item for item in copies.marks if item[1] in (LOADED, "build")]
    body = [item for item in copies.marks if item[0] >= prepared and item[1] not in ("prepared", "end")]
    for step in range(2):
        numbers: dict[int, int] = {}
        waiting = body[::-1]
        for position in range(prepared, end + 1):
            while waiting and waiting[-1][0] <= position:
                phase = waiting.pop()[1]
                if phase in taken:
                    order.extend(islice(taken[phase], 1) if step == 0 else ())
                    continue
                if step == 0 and phase == "backward_rest":
                    order.extend(states)
                marks.append((len(order), phase))
            if position == end:
                break
            item = copies.order[position]
            if item >= 0:
                if step == 0:
                    numbers[item] = item
                else:
                    numbers[item] = len(source)
                    source.append(copies.source[item])
                order.append(numbers[item])
            else:
                order.append(~numbers.get(~item, ~item))
    return Copies(order, source, [*marks, (len(order), "end")])
