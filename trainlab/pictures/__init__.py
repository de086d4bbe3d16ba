"""Pictures of runs: what `trainlab plot` draws, and what reports show. Needs matplotlib.

style   colours for all eyes, on white, on black and in print; how a figure becomes a file
data    what is drawn: series over epochs, values over settings
kinds   curves, bars, heatmap, scatter, parallel

Colours are Paul Tol's `bright` scheme (https://sronpersonalpages.nl/~pault/), told apart by every
kind of colour-blindness; lines differ in their dashes too, and maps are viridis, so that all can be
read in grey.
"""
