"""Where the guard executable lies: beside this file."""

import os

NAME = "pyjob-guard"
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME)
