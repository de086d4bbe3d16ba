"""Hyper-parameter search. Read in this order:

loop      the story: ask for a batch of trials, train it in one launch (or rung by rung), tell
space     what is searched, in Hydra's grammar
samplers  who proposes the next trial
halving   who goes on, and for how long
trials    where trials are kept, so that a search resumes and several processes can share one
score     what a run is worth
report    the best trial and its command, a table, importances, search.csv, search.svg

Nothing is imported here: `trainlab train` without a search needs none of it.
"""
