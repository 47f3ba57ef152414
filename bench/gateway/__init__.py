"""What a gateway costs: Hanlin beside other gateways, in front of servers that have every answer ready.

    python -m bench.gateway                                 all of them, in turns
    python -m bench.gateway --peers nginx --seconds 2       fewer peers, faster; Hanlin is always there
    python -m bench.gateway --body-mb 10                    what a large request costs in time and memory
    python -m bench.gateway --soak 30                       whether memory stays flat under a constant load

The gateway has one core to itself, whatever measures it runs on another one. Figures of one run are comparable with
each other only: machines have moods, so everybody is asked in turns, several rounds, and medians are shown. What the
host of a virtual machine takes away meanwhile is shown too: a bar in milliseconds is judged by the rounds without that.
"""
