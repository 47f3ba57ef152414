"""The command: reads its arguments, installs and starts the gateways, measures in turns, prints and writes."""

import argparse
import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench.gateway import __doc__ as about
from bench.gateway.drills import large_bodies, soak
from bench.gateway.measure import Cores, Figures, Options, Target, rest, servers, settle, turn, wake
from bench.gateway.report import show
from bench.peers import PEERS, Absent, started


def arguments() -> argparse.Namespace:
    usual = Options()
    parser = argparse.ArgumentParser(
        "python -m bench.gateway", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="all", help=f"names with commas between, all or none: {', '.join(PEERS)}")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of every measurement")
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--connections", type=int, default=usual.connections, help="that are kept busy")
    parser.add_argument("--streams", type=int, default=usual.streams, help="paced streams that are open at once")
    parser.add_argument("--chunks", type=int, default=usual.chunks, help="of an answer; engines send one a token")
    parser.add_argument("--writes", choices=("one", "each"), default=usual.writes, help="how servers send the chunks")
    parser.add_argument("--body-mb", type=float, default=0.0, help="measure only requests of this size")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="only watch the memory under load")
    parser.add_argument("--json", type=Path, help="also write every round's figures here")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    console = Console(width=None if os.isatty(1) else 160)
    options = Options(asked.seconds, asked.rounds, asked.connections, asked.streams, asked.chunks, asked.writes)
    cores = Cores.of(sorted(os.sched_getaffinity(0)))
    if cores.gateway == cores.servers:
        console.print("[bold red]There is one core only: the gateway shares it with what measures it.[/bold red]")
    drill = bool(asked.body_mb or asked.soak)
    wanted = () if drill or asked.peers == "none" else tuple(PEERS) if asked.peers == "all" else asked.peers.split(",")
    if unknown := set(wanted) - set(PEERS):
        raise SystemExit(f"unknown peers: {', '.join(sorted(unknown))}. There are {', '.join(PEERS)}")
    with contextlib.ExitStack() as stack:
        # What measures runs beside the servers, never on the gateway's core.
        os.sched_setaffinity(0, {cores.load})
        ports = stack.enter_context(servers(cores.servers))
        direct = Target("direct", ports[0])
        always = "hanlin-accounts" if asked.soak else "hanlin"  # what is kept of calls must not pile up
        chosen = [name for name in PEERS if name in wanted or name == always]
        targets, versions = start(stack, console, chosen, ports, cores, options)
        result: dict[str, Any] = {"versions": versions, "options": asdict(options)}
        hanlin = targets.get(always)
        if asked.body_mb and hanlin is not None:
            result["body"] = large_bodies(console, hanlin, direct, asked.body_mb, cores)
        elif asked.soak and hanlin is not None:
            result["soak"] = soak(console, hanlin, asked.soak, options, cores)
        elif not drill:
            result |= compare(console, [direct, *targets.values()], options, cores)
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))


def start(
    stack: contextlib.ExitStack,
    console: Console,
    names: list[str],
    ports: tuple[int, ...],
    cores: Cores,
    options: Options,
) -> tuple[dict[str, Target], dict[str, str]]:
    """Install and start gateways; they end with the stack. Return the targets and versions of those that run."""
    targets, versions = {}, {}
    upstreams = [f"http://127.0.0.1:{port}" for port in ports]
    for name in names:
        try:
            versions[name] = PEERS[name].install()
            console.print(f"starting {name} {versions[name]} on core {cores.gateway} …")
            running = stack.enter_context(started(PEERS[name], upstreams, cores.gateway, options.max_body_bytes))
        except Absent as absent:
            console.print(f"[bold red]SKIPPED {name}: {absent}[/bold red]", highlight=False)
            continue
        targets[name] = Target.of(PEERS[name], running)
        stack.callback(wake, targets[name])  # one that rests could not end
    return targets, versions


def compare(console: Console, targets: list[Target], options: Options, cores: Cores) -> dict[str, Any]:
    """Measure everybody in turns and print the tables. Return every round's figures and their medians."""
    rounds: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for target in targets:
        rest(target)
    for number in range(options.rounds):
        for target in targets:
            wake(target)
            settle(target)
            figures = turn(target, targets[0], options, cores)
            rest(target)
            rounds[target.name].append(figures)
            console.print(
                f"round {number + 1} {target.name:12} {figures.plain.per_second:9,.0f} req/s "
                f"{figures.streamed.per_second:8,.0f} streams/s  p99 {figures.added_p99_ms:+.2f} ms at half load, "
                f"{figures.stolen_share:.1%} stolen  "
                f"chunks {figures.paced.delay_p99_ms:.1f} ms late at p99",
                highlight=False,
            )
    middle = show(console, rounds, options)
    return {"rounds": rounds, "medians": middle}


if __name__ == "__main__":
    main()
