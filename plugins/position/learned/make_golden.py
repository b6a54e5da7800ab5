#!/usr/bin/python3
# Golden values of learned positions: rows of a given table, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    table = golden.rows(68, 10, 8)
    for first, n in ((0, 10), (6, 3)):
        golden.write_embedding(out, "learned{max_length=10}", 2, 4, first, table[first : first + n], parameters=(table,))
