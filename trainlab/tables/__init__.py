"""What runs leave, as tables. Read in this order:

runs        run folders -> entries, one row per run: runs.csv, and `trainlab.table` as a DataFrame
where       which of them: --where "optimizer==adam and val_accuracy>0.9"
recipes     runs that differ only in their seed as one row: mean ± 95 % interval, rank, n
forms       rows and recipes as csv, json, markdown, latex, parquet, and on the terminal
statistics  intervals, tests, effect sizes on plain arrays; knows nothing of runs
compare     two or more recipes: is there a difference, how large, how sure
effects     which choice of a sweep matters

Nothing is imported here, so that a sweep's end needs no pandas and no scipy.stats.
"""
