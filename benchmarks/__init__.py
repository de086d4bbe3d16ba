"""Speed against peers on the same work, as ratios: `make bench`, or `python -m benchmarks steps
startup`.

Each pair is measured interleaved in one process (or process by process for start-up), several
rounds, one torch thread; the ratio of a round is ours over the peer's, and the table shows its
median and its extremes. Machines are noisy: believe the ratio, not the milliseconds.
"""
